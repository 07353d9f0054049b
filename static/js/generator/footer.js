// The button says what it will do and what it takes; the server counts, a moment after the last change.

import { asForm, fieldsOf, theForm } from "./dom.js";
import { gridAsked } from "./settings.js";

const WAIT = 500;
let timer;
let asked = 0;

async function ask() {
  const form = theForm();
  const mine = ++asked;
  let found;
  try {
    const answer = await fetch("/generate/estimate", { method: "POST", body: asForm(fieldsOf(form)) });
    if (!answer.ok) return;
    found = await answer.json();
  } catch {
    return; // The button works without it.
  }
  if (mine === asked && form.isConnected) show(form, found);
}

function show(form, found) {
  const things = "clips" in form.dataset ? "clips" : "pictures";
  const many = found.pictures > 1 ? `${found.pictures} ${things}` : "";
  const price = [many, found.words].filter(Boolean).join(" · ");
  if (!found.problem) form.querySelector("[data-price]").textContent = price ? ` · ${price}` : "";
  const grid = gridAsked(form);
  form.querySelector("[data-action]").textContent = grid ? "Draw the grid" : "Generate";
  const count = form.querySelector("[data-grid-count]");
  if (count) {
    const words = found.problem || `${found.pictures} pictures${found.words ? `, ${found.words}` : ""}.`;
    count.textContent = grid ? words : "";
    count.classList.toggle("error", Boolean(grid && found.problem));
  }
  const notes = found.notes.map((words) => {
    const item = document.createElement("li");
    item.className = "notice advice small";
    item.textContent = words;
    return item;
  });
  form.querySelector("[data-told-notes]").replaceChildren(...notes);
}

function soon(event) {
  if (!event.target.closest?.("form[data-generator]")) return;
  clearTimeout(timer);
  timer = setTimeout(ask, WAIT);
}

export function attachFooter(form) {
  clearTimeout(timer);
  if (form.elements.prompt.value) timer = setTimeout(ask, WAIT);
}

export function initFooter() {
  document.addEventListener("input", soon);
  document.addEventListener("change", soon);
}
