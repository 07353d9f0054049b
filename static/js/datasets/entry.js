// The field for tags: suggestions from the set's own tags, Enter adds, an empty Enter goes on.

import { h } from "./dom.js";
import { splitTags, suggest } from "./tags.js";

let number = 0;

// `options`: {placeholder, label, present(), counts(), add(tags), next(), step(by), removeLast()}
export function tagEntry(options) {
  const id = `suggestions-${++number}`;
  const list = h("ul", { class: "plain suggestions", role: "listbox", id, "aria-label": "Suggestions", hidden: true });
  const field = h("input", {
    type: "text", class: "tag-entry", placeholder: options.placeholder, "aria-label": options.label, autocomplete: "off",
    autocapitalize: "none", spellcheck: "false", enterkeyhint: "next", role: "combobox", "aria-expanded": "false", "aria-controls": id,
    "aria-autocomplete": "list",
  });
  let at = -1;
  let found = [];

  // Only what stands after the last comma is completed.
  const typed = () => field.value.slice(field.value.lastIndexOf(",") + 1);

  function draw() {
    found = suggest(options.counts(), typed(), [...options.present(), ...splitTags(field.value)]);
    at = Math.min(at, found.length - 1);
    list.hidden = !found.length;
    field.setAttribute("aria-expanded", String(found.length > 0));
    list.replaceChildren(
      ...found.map((tag, index) =>
        h("li", { role: "option", id: `${id}-${index}`, "aria-selected": String(index === at), onmousedown: (event) => event.preventDefault(), onclick: () => complete(tag, true) }, tag),
      ),
    );
    if (at >= 0) field.setAttribute("aria-activedescendant", `${id}-${at}`);
    else field.removeAttribute("aria-activedescendant");
    if (found.length) list.scrollIntoView({ block: "nearest" });
  }

  function complete(tag, take) {
    const start = field.value.lastIndexOf(",") + 1;
    field.value = `${field.value.slice(0, start)}${start ? " " : ""}${tag}`;
    at = -1;
    if (take) enter();
    else field.value += ", ";
    draw();
    field.focus();
  }

  function enter() {
    const tags = splitTags(field.value);
    field.value = "";
    at = -1;
    if (tags.length) options.add(tags);
    else options.next();
    draw();
  }

  field.addEventListener("input", () => {
    at = -1;
    draw();
  });
  field.addEventListener("blur", () => {
    list.hidden = true;
    if (field.value.trim()) enter();
  });
  field.addEventListener("focus", draw);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const empty = field.value === "";
    if (event.key === "Enter") {
      event.preventDefault();
      if (at >= 0) complete(found[at], true);
      else enter();
    } else if (event.key === "ArrowDown" && found.length) {
      event.preventDefault();
      at = (at + 1) % found.length;
      draw();
    } else if (event.key === "ArrowUp" && found.length) {
      event.preventDefault();
      at = at <= 0 ? -1 : at - 1;
      draw();
    } else if (event.key === "Tab" && found.length && !event.shiftKey) {
      event.preventDefault();
      complete(found[Math.max(0, at)], false);
    } else if (event.key === "Escape" && found.length) {
      event.stopPropagation();
      found = [];
      at = -1;
      list.hidden = true;
    } else if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && empty) {
      event.preventDefault();
      options.step(event.key === "ArrowRight" ? 1 : -1);
    } else if (event.key === "Backspace" && empty) {
      options.removeLast();
    }
  });

  return { element: h("div", { class: "tag-entry-box" }, field, list), focus: () => field.focus(), field };
}
