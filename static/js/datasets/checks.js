// One sentence about the set as a whole, and what is worth a look, with "Show only these".

import { count, h } from "./dom.js";

const CHECKS = [
  { code: "near-duplicate", words: (n) => `${n} ${n === 1 ? "looks" : "look"} almost like another`, removable: true },
  { code: "enlarged", words: (n, side) => `${n} ${n === 1 ? "is" : "are"} small${side ? " and will be enlarged" : " for a model that draws at 512 pixels"}` },
  { code: "blurry", words: (n) => `${n} may be blurry` },
  { code: "odd-aspect", words: (n) => `${n} ${n === 1 ? "is" : "are"} very long or tall; the ends are cut off` },
  { code: "alpha-flattened", words: (n) => `${n} had see-through parts, now white` },
  { code: "short-clip", words: (n) => `${n} ${n === 1 ? "is" : "are"} shorter than a second` },
  { code: "low-rate", words: (n, _, cut) => `${n} ${n === 1 ? "has" : "have"} fewer ${cut ? "frames a second than the model" : "than 10 frames a second"}; motion looks jerky` },
  { code: "label-encoding", words: (n) => `${n} ${n === 1 ? "label was" : "labels were"} in an old encoding; check the accents` },
];

// → [level, words]. 15 to 30 pictures are best; below 3 no training starts.
export function judge(items, noun = "picture") {
  if (noun === "clip") return judgeClips(items);
  const n = items.length;
  const without = items.filter((item) => !item.label).length;
  const labelled = without === 0 ? "all labelled" : without === n ? "none labelled yet" : `${without} without a label`;
  if (n < 3) return ["advice", `${count(n, "picture")}. Add at least 3; 15 to 30 work best.`];
  if (n < 10) return ["advice", `${n} pictures, ${labelled}. It works, but will be stiff; 15 to 30 are better.`];
  const level = without ? "advice" : "good";
  if (n < 15) return [level, `${n} pictures, ${labelled}. Fine; 15 to 30 are better.`];
  if (n > 50) return ["", `${n} pictures, ${labelled}. More is slower and rarely better.`];
  return [level, `${n} pictures, ${labelled}.${without ? "" : " That is a good set."}`];
}

// → as `judge`. A handful of short clips teaches a motion; training on them takes its time.
function judgeClips(items) {
  const n = items.length;
  const without = items.filter((item) => !item.label).length;
  const said = `${count(n, "clip")}, ${without ? `${without} without a caption` : "all with captions"}.`;
  if (n < 3) return ["advice", `${count(n, "clip")}. Add at least 3; 5 to 20 of 2 to 10 seconds work best.`];
  if (n > 50) return ["", `${said} More is slower and rarely better.`];
  return [without ? "advice" : "good", without ? said : `${said} That is a good set.`];
}

export function checks(root, store) {
  const meter = root.querySelector("[data-meter]");
  const box = root.querySelector("[data-checks]");
  store.addEventListener("change", draw);

  function draw() {
    const [level, words] = judge(store.items, store.noun);
    meter.hidden = !store.items.length;
    meter.className = `notice ${level}`.trim();
    if (meter.textContent !== words) meter.textContent = words;
    const found = CHECKS.filter((check) => check.code !== "enlarged" || store.noun === "picture" || store.resolution).map((check) => ({ ...check, items: store.items.filter((item) => store.warningsOf(item).has(check.code)) }));
    box.replaceChildren(...found.filter((check) => check.items.length).map(chip));
  }

  function chip({ code, words, items, removable }) {
    const on = store.filter?.kind === "warning" && store.filter.value === code;
    return h(
      "p",
      { class: "notice advice check-chip" },
      h("span", {}, words(items.length, store.resolution, store.cut)),
      h("button", { type: "button", class: "link", "aria-pressed": String(on), onclick: () => store.show({ kind: "warning", value: code }) }, on ? "Show all" : "Show only these"),
      removable && h("button", { type: "button", class: "link", onclick: () => root.dispatchEvent(new CustomEvent("remove-items", { detail: items.map((item) => item.id) })) }, `Remove ${items.length === 1 ? "it" : `all ${items.length}`}`),
    );
  }

  draw();
}
