// The form is remembered in this tab, and drawn anew by the server: after a reload, an undo, a new model.

import { asForm, fieldsOf, live, post, setField, theForm } from "./dom.js";

const KEY = "generate-form";
const ready = [];
let before;

/** `attach(form)` is called now and for each form that replaces it. */
export function onForm(attach) {
  ready.push(attach);
}

export function start(form) {
  for (const attach of ready) attach(form);
}

export function save() {
  const form = theForm();
  if (form) sessionStorage.setItem(KEY, JSON.stringify(fieldsOf(form)));
}

export function saved() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  } catch {
    return null;
  }
}

/** Put the server's drawing in place of the form. With `undoable`, one click brings back what was there. */
export async function replace(answer, undoable) {
  const old = theForm();
  const left = fieldsOf(old);
  const box = document.createElement("template");
  box.innerHTML = await answer.text();
  const form = box.content.querySelector("form[data-generator]");
  if (!form) throw new Error("That did not work. Load the page again.");
  keepOpen(old, form);
  const focus = focusOf(old);
  old.replaceWith(form);
  window.htmx.process(form);
  before = undoable ? left : undefined;
  start(form);
  focus(form);
  save();
  const undo = form.querySelector("[data-undo]");
  if (undo && before) {
    undo.hidden = false;
    undo.addEventListener("click", () => redraw(before).then(() => live("As it was before")));
  }
  return form;
}

// What a person opened, and where they are, stays so.
function keepOpen(old, form) {
  const parts = [...form.querySelectorAll("details")];
  const names = (part) => part.dataset.part ?? part.querySelector("summary").textContent.split(" · ")[0];
  for (const part of old.querySelectorAll("details[open]")) {
    const same = parts.find((other) => names(other) === names(part));
    if (same) same.open = true;
  }
}

function focusOf(old) {
  const field = document.activeElement;
  if (!field?.id || !old.contains(field)) return () => {};
  const place = field.matches("textarea") ? [field.selectionStart, field.selectionEnd] : null;
  return (form) => {
    const same = form.querySelector(`#${CSS.escape(field.id)}`);
    same?.focus({ preventScroll: true });
    if (place && same) same.setSelectionRange(...place);
  };
}

/** The form with these fields. What was typed while the server drew it is kept. */
export async function redraw(fields, undoable = false) {
  const asked = fieldsOf(theForm());
  const answer = await post("/generate/form", asForm(fields));
  const typed = Object.entries(fieldsOf(theForm())).filter(([name, value]) => asked[name] !== value);
  const form = await replace(answer, undoable);
  for (const [name, value] of typed) setField(form, name, value);
  return form;
}

// What the address asked for comes first; then what was left here, also under a newly chosen model.
async function restore(form) {
  const asked = new URLSearchParams(location.search);
  const left = saved();
  if (asked.size === 0 && left) return redraw(left);
  if (left && asked.size === 1 && asked.has("start")) return redraw({ ...left, start: form.elements.start.value, mask: "" });
  if (left && (asked.has("version") || asked.has("media")) && !form.elements.prompt.value) {
    form.elements.prompt.value = left.prompt ?? "";
    form.elements.negative_prompt.value ||= left.negative_prompt ?? "";
  }
  return form;
}

export async function remember(form) {
  try {
    await restore(form);
  } catch {
    // The form stands as the server drew it.
  }
  // From now on a reload shows what was done here, not what the address once asked for.
  if (location.search) history.replaceState(null, "", "/generate");
  save();
  for (const kind of ["input", "change"]) {
    document.addEventListener(kind, (event) => event.target.closest("form[data-generator]") && save());
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-reset]")) return;
    sessionStorage.removeItem(KEY);
    location.assign("/generate");
  });
}
