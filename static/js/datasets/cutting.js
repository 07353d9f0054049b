// What a training would take of a clip, on its strip of frames: the server says the windows, bars show them.
// In the wizard they are cut as the training will; elsewhere one can try models and ways of cutting.

import { call } from "./api.js";
import { count, h } from "./dom.js";

const MODES = {
  head: "the beginning",
  uniform: "four spread evenly",
  chunks: "one after the other",
  sliding: "overlapping",
  full: "all of it",
};
const LENGTHS = [17, 33, 49, 65, 81, 97, 121, 161];
const LANES = 3;
let choice = null; // {family, mode, length}: stays while one goes from clip to clip

// Windows in as few rows as keep overlapping ones apart, three at most.
export function lanes(windows) {
  const ends = [];
  return windows.map((window, number) => {
    let lane = ends.findIndex((end) => end <= window.start);
    if (lane < 0) lane = ends.length < LANES ? ends.length : number % LANES;
    ends[lane] = window.start + window.length;
    return lane;
  });
}

// [from, to] in frames that no window shows.
export function gaps(windows, frames) {
  const found = [];
  let at = 0;
  for (const { start, length } of [...windows].sort((a, b) => a.start - b.start)) {
    if (start > at) found.push([at, start]);
    at = Math.max(at, start + length);
  }
  if (at < frames) found.push([at, frames]);
  return found;
}

export function sentence(cut, item) {
  const { length } = cut.windows[0];
  if (cut.frames === 1) return "One frame.";
  const windows = `${count(cut.windows.length, "piece")} of ${count(length, "frame")} (${(length / cut.fps).toFixed(1)} s)`;
  const rest = cut.unused ? `${count(cut.unused, "frame")} of ${cut.frames} ${cut.unused === 1 ? "is" : "are"} not used.` : "Every frame is used.";
  return `${windows}. ${rest}${item.fps < cut.fps ? " It has fewer frames a second than the model, so some are shown twice." : ""}`;
}

// Lengths in frames that a family can take, its own among them.
export function lengthsOf(family) {
  const found = new Set([family.window, ...LENGTHS.filter((n) => (n - 1) % family.step === 0 && n <= family.longest)]);
  return [...found].sort((a, b) => a - b);
}

export function cutting(store, item) {
  const veil = h("div", { class: "cut-veil", "aria-hidden": "true" });
  const bars = h("div", { class: "cut-bars", "aria-hidden": "true" });
  const said = h("p", { class: "muted small", role: "status" });
  const strip = h("img", { src: item.strip_url, width: "540", height: "90", alt: "Frames of the clip from its beginning to its end", draggable: "false" });
  const settings = store.cut ? "" : h("div", { class: "cut-settings" });

  function place(element, from, to, frames) {
    element.style.left = `${(100 * from) / frames}%`;
    element.style.width = `${(100 * (to - from)) / frames}%`;
    return element;
  }

  async function load() {
    try {
      const cut = await call("GET", `${store.url}/items/${item.id}/windows?${new URLSearchParams(store.cut ?? choice)}`);
      const rows = lanes(cut.windows);
      bars.replaceChildren(...cut.windows.map((window, number) => {
        const bar = place(h("span", { class: "cut-bar" }), window.start, window.start + window.length, cut.frames);
        bar.style.top = `${rows[number] * 8}px`;
        return bar;
      }));
      bars.style.height = `${8 * (Math.max(...rows) + 1)}px`;
      veil.replaceChildren(...gaps(cut.windows, cut.frames).map(([from, to]) => place(h("span"), from, to, cut.frames)));
      said.textContent = sentence(cut, item) + (store.cut ? " Step 3 can change this, under Advanced." : "");
    } catch (error) {
      said.textContent = error.message;
    }
  }

  if (settings) choose(store, settings, load);
  load();
  return h("section", { class: "cut stack tight", "aria-label": "What a training takes of this clip" },
    h("h3", {}, "What a training takes of it"),
    h("div", { class: "cut-strip" }, strip, veil),
    bars,
    settings,
    said);
}

function choose(store, box, load) {
  const families = new Map(store.families.map((family) => [family.name, family]));
  choice ??= { family: store.families[0].name, mode: "head", length: store.families[0].window };
  const titles = Object.fromEntries(store.families.map(({ name, title, fps }) => [name, `${title} (${fps}/s)`]));

  function select(name, label, options) {
    const field = h("select", { "aria-label": label, onchange: () => { choice[name] = field.value; draw(); load(); } },
      Object.entries(options).map(([value, words]) => h("option", { value }, words)));
    field.value = String(choice[name]);
    return field;
  }

  function draw() {
    const family = families.get(choice.family);
    const possible = lengthsOf(family);
    if (!possible.includes(Number(choice.length))) choice.length = family.window;
    const lengths = select("length", "Length of a piece", Object.fromEntries(possible.map((n) => [n, `${n} frames`])));
    lengths.disabled = choice.mode === "full";
    const focused = box.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
    box.replaceChildren(select("mode", "How it is cut", MODES), lengths, select("family", "Model and its rate", titles));
    if (focused) [...box.children].find((field) => field.ariaLabel === focused)?.focus();
  }

  draw();
}
