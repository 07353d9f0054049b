// What was typed right before the page is left is sent on the way out.
function saveOnLeave(form, address) {
  let unsaved = false;
  form.addEventListener("input", () => (unsaved = true));
  form.addEventListener("submit", () => (unsaved = false));
  form.addEventListener("htmx:after:swap", () => (unsaved = false));
  addEventListener("pagehide", () => {
    if (unsaved) navigator.sendBeacon(address, new URLSearchParams(new FormData(form)));
    unsaved = false;
  });
}

// Step 3 of the wizard: Enter in a field takes its value; only the button starts the training.
const review = document.querySelector("[data-review]");
if (review) saveOnLeave(review, location.pathname);
review?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || !event.target.matches("input:not([type=radio])")) return;
  event.preventDefault();
  event.target.dispatchEvent(new Event("change", { bubbles: true }));
});

// Step 1 of the wizard: saves while you type, and makes a trigger word from the name until you choose your own.

const form = document.querySelector("[data-wizard]");
if (form) {
  const name = form.querySelector("[data-name]");
  const trigger = form.querySelector("[data-trigger]");
  let own = trigger.value !== "" && trigger.value !== suggest();
  let timer;
  // On a phone the keyboard would cover what stands above.
  if (!name.value && matchMedia("(hover: hover)").matches) name.focus();

  saveOnLeave(form, form.dataset.autosave);
  trigger.addEventListener("input", () => (own = trigger.value !== ""));
  form.addEventListener("input", () => {
    if (!own) trigger.value = suggest();
    clearTimeout(timer);
    timer = setTimeout(save, 600);
  });

  // Pictures or clips: only those bases are offered that train on them.
  const bases = [...form.querySelectorAll(".base[data-media]")];
  function offerBases() {
    const media = form.elements.media?.value;
    if (!media) return;
    for (const base of bases) {
      const radio = base.querySelector("input");
      base.hidden = radio.disabled = !base.dataset.media.split(" ").includes(media);
      if (base.hidden) radio.checked = false;
    }
    const radios = bases.filter((base) => !base.hidden).map((base) => base.querySelector("input"));
    if (radios.length && !radios.some((radio) => radio.checked)) radios[0].checked = true;
    form.querySelector("[data-next]").textContent = media === "video" ? "Next: clips" : "Next: pictures";
    // The steps stand above the form and were drawn for what the draft held before.
    const step = document.querySelector(".steps [data-words]");
    if (step) step.textContent = step.dataset[media === "video" ? "clips" : "pictures"];
  }
  offerBases();
  for (const choice of form.querySelectorAll("input[data-media]")) choice.addEventListener("change", offerBases);

  // Only those VAEs and text encoders are offered that fit the chosen model.
  function offerParts(part) {
    const base = form.elements.base?.value ?? "";
    const options = [...part.querySelectorAll("option[data-fits]")];
    for (const option of options) {
      const fits = option.dataset.fits.split(" ").includes(base);
      option.hidden = option.disabled = !fits;
      if (!fits && option.selected) part.querySelector("select").value = "";
    }
    part.hidden = options.every((option) => option.disabled) && !part.querySelector("[aria-invalid]");
  }
  for (const part of form.querySelectorAll("[data-part]")) {
    offerParts(part);
    form.addEventListener("change", () => offerParts(part));
  }

  function suggest() {
    const word = name.value.toLowerCase().replace(/[^a-z0-9]+/g, "").slice(0, 20);
    if (form.elements.type.value === "style") return word;
    const leet = { a: "4", e: "3", i: "1", o: "0" };
    for (let at = word.length - 1; at > 0; at--) {
      if (leet[word[at]]) return word.slice(0, at) + leet[word[at]] + word.slice(at + 1);
    }
    return word;
  }

  async function save() {
    const saved = document.getElementById("saved");
    try {
      const answer = await fetch(form.dataset.autosave, { method: "POST", body: new FormData(form) });
      saved.textContent = answer.ok ? "Saved" : "Not saved. Are you still logged in?";
    } catch {
      saved.textContent = "Waiting for the connection";
    }
  }
}
