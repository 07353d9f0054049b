// The pictures: one tile each, kept across changes, so that nothing flickers. Arrows move, Ctrl and Shift choose more.

import { isClip, lengthOf, previews } from "./clips.js";
import { count, h } from "./dom.js";

export const WARNINGS = {
  enlarged: "small",
  "near-duplicate": "looks alike",
  blurry: "blurry?",
  "odd-aspect": "long shape",
  "alpha-flattened": "was see-through",
  animated: "first frame",
  "short-clip": "short",
  "low-rate": "jerky",
  "label-encoding": "check letters",
};

export function grid(root, store) {
  const box = root.querySelector("[data-grid]");
  const bar = root.querySelector("[data-shown]");
  const tiles = new Map();
  box.replaceChildren();
  previews(box, (id) => store.find(id));
  store.addEventListener("change", draw);

  box.addEventListener("click", (event) => {
    const id = event.target.closest("[data-item]")?.dataset.item;
    if (!id) return;
    if (event.ctrlKey || event.metaKey) store.toggle(id);
    else if (event.shiftKey && store.current) store.chooseUpTo(id);
    else {
      store.choose(id);
      root.dispatchEvent(new CustomEvent("open-picture"));
    }
  });

  box.addEventListener("keydown", (event) => {
    const columns = Math.max(1, getComputedStyle(box).gridTemplateColumns.split(" ").length);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -1e9, End: 1e9 };
    if (event.key in steps) {
      event.preventDefault();
      store.step(steps[event.key]);
      tiles.get(store.current)?.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      const id = event.target.closest("[data-item]")?.dataset.item;
      if (event.key === " " && event.ctrlKey) store.toggle(id);
      else {
        store.choose(id);
        root.dispatchEvent(new CustomEvent("open-picture", { detail: { type: true } }));
      }
    } else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      store.chooseAll();
    } else if (event.key === "Delete") {
      root.dispatchEvent(new CustomEvent("remove-chosen"));
    } else if (event.key === "Escape") {
      store.choose(null);
    }
  });

  function tile(item) {
    const made = h(
      "div",
      { class: "picture-tile", role: "option", "data-item": item.id, tabindex: "-1" },
      h("img", { src: item.thumb_url, alt: "", loading: "lazy", width: "192", height: "144", draggable: "false" }),
      h("span", { class: "picture-tile-marks" }),
      isClip(item) && h("span", { class: "tile-length num" }, lengthOf(item)),
      h("span", { class: "picture-tile-label" }),
    );
    tiles.set(item.id, made);
    return made;
  }

  function update(made, item) {
    const chosen = store.selected.has(item.id);
    const nothing = store.isCaption ? "no caption yet" : "no tags yet";
    made.setAttribute("aria-selected", String(chosen));
    made.setAttribute("aria-label", `${item.name}${isClip(item) ? `, ${lengthOf(item)}` : ""}: ${item.label || nothing}`);
    made.classList.toggle("is-current", item.id === store.current);
    made.querySelector(".picture-tile-label").textContent = item.label || nothing;
    made.classList.toggle("is-untagged", !item.label);
    const words = [...store.warningsOf(item)].filter((code) => WARNINGS[code]).map((code) => WARNINGS[code]);
    const marks = made.querySelector(".picture-tile-marks");
    if (marks.dataset.words !== words.join()) {
      marks.dataset.words = words.join();
      marks.replaceChildren(...words.slice(0, 2).map((word) => h("span", { class: "badge advice" }, word)));
    }
  }

  function draw() {
    const shown = store.shown();
    const wanted = shown.map((item) => tiles.get(item.id) ?? tile(item));
    const have = [...box.children];
    if (wanted.length !== have.length || wanted.some((one, at) => one !== have[at])) {
      const focused = document.activeElement;
      box.replaceChildren(...wanted);
      if (wanted.includes(focused)) focused.focus();
    }
    for (const item of shown) update(tiles.get(item.id), item);
    const entry = store.current && shown.some((item) => item.id === store.current) ? store.current : shown[0]?.id;
    for (const one of wanted) one.tabIndex = one.dataset.item === entry ? 0 : -1;
    for (const id of tiles.keys()) if (!store.find(id)) tiles.delete(id);
    drawBar(shown);
  }

  function drawBar(shown) {
    bar.hidden = !store.filter && store.selected.size < 2;
    if (bar.hidden) return;
    const words = store.filter
      ? `${shown.length} of ${store.items.length} shown${store.filter.value ? `: ${WARNINGS[store.filter.value] ?? store.filter.value}` : ": untagged"}`
      : `${store.selected.size} chosen`;
    const parts = [
      h("span", { class: "muted" }, words),
      h("button", { type: "button", class: "btn small", onclick: () => store.chooseAll() }, "Choose all of them"),
      store.filter && h("button", { type: "button", class: "btn small", onclick: () => store.show(null) }, "Show all"),
      store.selected.size > 1 && h("button", { type: "button", class: "btn small danger", onclick: () => root.dispatchEvent(new CustomEvent("remove-chosen")) }, `Remove ${count(store.selected.size, store.noun)}`),
    ];
    bar.replaceChildren(...parts.filter(Boolean));
  }

  draw();
  return { focusCurrent: () => tiles.get(store.current)?.scrollIntoView({ block: "nearest" }) };
}
