// A short word at the bottom, with one action; said aloud too. It never holds the only report of an error.

import { h } from "./dom.js";

let timer;

export function toast(words, action = "", run = null) {
  document.querySelector(".toast")?.remove();
  clearTimeout(timer);
  const box = h("div", { class: "toast row", role: "status" }, h("span", {}, words), action && h("button", { type: "button", class: "link", onclick: () => { box.remove(); run(); } }, action));
  document.body.append(box);
  timer = setTimeout(() => box.remove(), 8000);
}
