// The generator: picking models and LoRAs, strengths, trigger words, and the queue.

import { announce } from "./copy.js";

const form = document.querySelector("[data-generator]");
const picker = document.getElementById("picker");
const results = document.getElementById("picker-results");
const query = document.getElementById("picker-query");
const html = (strings, ...values) =>
  strings.reduce((all, part, i) => all + part + (i < values.length ? escape(values[i]) : ""), "");

function escape(value) {
  const box = document.createElement("span");
  box.textContent = String(value ?? "");
  return box.innerHTML.replaceAll('"', "&quot;");
}

let kind = "LORA";
let timer;

let asked = 0;

async function search() {
  const mine = ++asked;
  const base = form.querySelector("[data-model]").dataset.base;
  const version = form.elements.model_version_id.value;
  const params = new URLSearchParams({ kind, base, version, query: query.value });
  try {
    const answer = await fetch(`/generate/picker?${params}`, { headers: { "HX-Request": "true" } });
    const login = answer.headers.get("HX-Redirect");
    if (login) location.assign(login);
    else if (mine === asked) results.innerHTML = await answer.text();
  } catch {
    if (mine === asked) results.textContent = "There is no connection. Close this and try again.";
  }
}

function openPicker(which) {
  kind = which;
  query.value = "";
  document.getElementById("picker-title").textContent = which === "LORA" ? "Add a LoRA" : "Choose a model";
  results.textContent = "";
  picker.showModal();
  if (matchMedia("(hover: hover)").matches) query.focus();
  search();
}

function cover(id) {
  return id ? html`<img src="/images/${id}/file?width=160" alt="">` : '<span class="no-cover"></span>';
}

function addLora(pick) {
  const { version, name, versionName, strength, words } = pick.dataset;
  if (form.querySelector(`[data-lora="${CSS.escape(version)}"]`)) {
    announce(`${name} is in the list already`);
    return;
  }
  const card = document.createElement("div");
  card.className = "well lora-card";
  card.dataset.lora = version;
  const chips = words
    .split(",")
    .map((word) => word.trim())
    .filter(Boolean)
    .map((word) => html`<button class="chip trigger" type="button" data-insert="${word}">${word}</button>`)
    .join(" ");
  card.innerHTML =
    cover(pick.dataset.cover) +
    html`<div class="grow"><div class="row between"><span><span class="strong">${name}</span> <span class="muted small">${versionName}</span></span>
    <button class="btn quiet small" type="button" data-lora-remove aria-label="Remove ${name}">×</button></div>
    <div class="strength"><input type="range" min="-1" max="2" step="0.05" value="${strength}" aria-label="Strength of ${name}" data-range>
    <input class="num" type="number" min="-1" max="2" step="0.05" name="lora-${version}" value="${strength}" aria-label="Strength as a number"></div>` +
    `${chips}</div>`;
  form.querySelector("[data-loras]").append(card);
  const first = words.split(",")[0]?.trim();
  if (first && !form.elements.prompt.value.includes(first)) insert(first);
}

function chooseModel(pick) {
  const url = new URL("/generate", location.href);
  url.searchParams.set("version", pick.dataset.version);
  const card = form.querySelector("[data-model]");
  if (card.dataset.base !== pick.dataset.base) {
    location.assign(url);
    return;
  }
  form.elements.model_version_id.value = pick.dataset.version;
  card.querySelector("[data-name]").textContent = pick.dataset.name;
  card.querySelector("[data-facts]").textContent = [pick.dataset.base, pick.dataset.licence].filter(Boolean).join(" · ");
  card.querySelector("[data-cover]").outerHTML = cover(pick.dataset.cover).replace(">", " data-cover>");
}

// A prompt survives a reload, a look at a picture, and the change to a model of another base.
function keepPrompt() {
  const remixed = new URLSearchParams(location.search).has("image");
  for (const field of [form.elements.prompt, form.elements.negative_prompt]) {
    const key = `generate-${field.name}`;
    if (!field.value && !remixed) field.value = sessionStorage.getItem(key) ?? "";
    field.addEventListener("input", () => sessionStorage.setItem(key, field.value));
    if (field.value) field.closest("details")?.setAttribute("open", "");
  }
}

// What went wrong stands above the button; what is new stands in sight and is said once.
function sendWell() {
  const problem = document.getElementById("generate-error");
  const own = (event) => event.detail.ctx?.sourceElement === form;
  form.addEventListener("htmx:after:request", (event) => {
    if (!own(event) || event.detail.ctx.response.status >= 400) return;
    problem.replaceChildren();
    document.querySelector("[data-empty]")?.remove();
    say("Waiting to be drawn");
    if (matchMedia("(max-width: 960px)").matches) document.getElementById("queue").scrollIntoView({ block: "start" });
  });
  form.addEventListener("htmx:error", (event) => {
    if (own(event)) problem.innerHTML = '<div class="notice bad">There is no connection. Nothing was sent; try again.</div>';
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const card = event.target.closest?.(".feed-job");
    const words = { succeeded: "Your pictures are finished", failed: "The pictures could not be drawn" }[card?.dataset.state];
    if (words) say(words);
  });
}

function say(words) {
  document.getElementById("live").textContent = words;
}

function insert(word) {
  const prompt = form.elements.prompt;
  const text = prompt.value.trim();
  prompt.value = text ? `${word}, ${text}` : word;
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
  if (matchMedia("(hover: hover)").matches) prompt.focus();
}

function weigh(direction) {
  const prompt = form.elements.prompt;
  const { selectionStart: start, selectionEnd: end, value } = prompt;
  if (start === end) return;
  const chosen = value.slice(start, end);
  const match = /^\((.*):([\d.]+)\)$/s.exec(chosen);
  const text = match ? match[1] : chosen;
  const weight = Math.round(((match ? Number(match[2]) : 1) + direction * 0.1) * 100) / 100;
  const next = weight === 1 ? text : `(${text}:${weight})`;
  prompt.setRangeText(next, start, end, "select");
}

function sizes() {
  const custom = form.querySelector("[data-custom]").checked;
  form.querySelector("[data-custom-size]").hidden = !custom;
}

// What the closed "Advanced" holds. Also at the start: a browser brings values back by itself.
function sumUp() {
  const { sampler, steps, cfg_scale: cfg, seed } = form.elements;
  form.querySelector("[data-advanced-words]").textContent =
    `${sampler.value}, ${steps.value} steps, CFG ${cfg.value}, seed ${seed.value || "random"}`;
}

if (form) {
  sizes();
  sumUp();
  keepPrompt();
  sendWell();
  // On a phone focus would open the keyboard over the pictures.
  if (matchMedia("(hover: hover)").matches) form.elements.prompt.focus({ preventScroll: true });
  form.addEventListener("change", sizes);
  form.addEventListener("input", (event) => {
    const target = event.target;
    const strength = target.closest(".strength");
    if (strength) {
      for (const other of strength.querySelectorAll("input")) if (other !== target) other.value = target.value;
    }
    sumUp();
  });
  form.addEventListener("keydown", (event) => {
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const asked = event.ctrlKey || (event.altKey && event.shiftKey);
    if (!direction || !asked || event.target !== form.elements.prompt) return;
    event.preventDefault();
    weigh(direction);
  });
  form.addEventListener("click", (event) => {
    const target = event.target;
    const opener = target.closest("[data-pick-open]");
    if (opener) openPicker(opener.dataset.pickOpen);
    if (target.closest("[data-lora-remove]")) target.closest(".lora-card").remove();
    const word = target.closest("[data-insert]");
    if (word) insert(word.dataset.insert);
  });
  query.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 200);
  });
  results.addEventListener("click", (event) => {
    const pick = event.target.closest("[data-pick]");
    if (!pick) return;
    picker.close();
    if (pick.dataset.pick === "LORA") addLora(pick);
    else chooseModel(pick);
  });
}
