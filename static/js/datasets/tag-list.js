// The left panel: tags of the set with how often, as filters; rename, remove from all, add to the chosen pictures.

import { count, h } from "./dom.js";

export function tagList(root, store, icon) {
  const list = root.querySelector("[data-tags]");
  const search = root.querySelector("[data-tag-filter]");
  const other = root.querySelector("[data-change-labels]");
  let renaming = null;

  if (other) {
    other.hidden = false;
    other.addEventListener("click", () => store.changeLabels().catch((error) => store.failed(error)));
  }

  search.addEventListener("input", draw);
  store.addEventListener("change", draw);
  list.addEventListener("keydown", (event) => {
    const row = event.target.closest("[data-tag]");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const names = [...list.querySelectorAll(".tag-name")];
      const next = names[names.indexOf(event.target.closest("li")?.querySelector(".tag-name")) + (event.key === "ArrowDown" ? 1 : -1)];
      if (next) {
        event.preventDefault();
        next.focus();
      }
    } else if (row && !event.target.matches("input")) {
      if (event.key === "F2") startRename(row.dataset.tag);
      if (event.key === "Delete") store.removeEverywhere(row.dataset.tag);
    }
  });

  function startRename(tag) {
    renaming = tag;
    draw();
    const field = list.querySelector("[data-rename]");
    field?.focus();
    field?.select();
  }

  function endRename(tag, to) {
    if (renaming === null) return;
    renaming = null;
    const name = to.trim();
    if (name && name !== tag) store.rename(tag, name);
    draw();
    list.querySelector(`[data-tag="${CSS.escape(tag)}"] .tag-name`)?.focus();
  }

  function filterButton(words, number, filter) {
    const pressed = store.filter?.kind === filter.kind && store.filter?.value === filter.value;
    return h(
      "button",
      { type: "button", class: "tag-name", "aria-pressed": String(pressed), "aria-label": `${words}, ${count(number, store.noun)}, show only these`, onclick: () => store.show(filter) },
      h("span", { class: "tag-word" }, words),
      h("span", { class: "num" }, String(number)),
    );
  }

  function renameRow(tag) {
    const field = h("input", {
      "data-rename": true, value: tag, "aria-label": `New name for “${tag}” in all ${store.noun}s`,
      onkeydown: (event) => {
        if (event.key === "Enter") {
          event.preventDefault();
          endRename(tag, field.value);
        }
        if (event.key === "Escape") endRename(tag, tag);
      },
      onblur: () => endRename(tag, field.value),
    });
    return h("li", { class: "tag-row", "data-tag": tag }, field);
  }

  function row({ tag, count: number }) {
    if (tag === renaming) return renameRow(tag);
    const chosen = store.selected.size;
    const name = filterButton(tag, number, { kind: "tag", value: tag });
    name.addEventListener("dblclick", () => startRename(tag));
    name.title = "Click: show only these. Double click or F2: rename in all.";
    return h(
      "li",
      { class: "tag-row", "data-tag": tag },
      name,
      h(
        "span",
        { class: "tag-actions" },
        chosen > 0 && h("button", { type: "button", title: `Add to ${count(chosen, `chosen ${store.noun}`)}`, "aria-label": `${tag}, add to ${count(chosen, `chosen ${store.noun}`)}`, onclick: () => store.addTags(store.items.filter((item) => store.selected.has(item.id)), [tag]) }, icon("plus")),
        h("button", { type: "button", title: "Rename in all", "aria-label": `${tag}, rename in ${count(number, store.noun)}`, onclick: () => startRename(tag) }, icon("pencil")),
        h("button", { type: "button", title: `Remove from ${count(number, store.noun)}`, "aria-label": `${tag}, ${count(number, store.noun)}, remove from all`, onclick: () => store.removeEverywhere(tag) }, icon("x")),
      ),
    );
  }

  function draw() {
    if (renaming !== null && list.querySelector("[data-rename]")) return;
    const focused = document.activeElement?.closest?.("[data-tag]")?.dataset.tag;
    const wanted = search.value.trim().toLowerCase();
    const tags = store.tagCounts().filter(({ tag }) => tag.toLowerCase().includes(wanted));
    const untagged = store.items.filter((item) => !item.label).length;
    const first = h("li", { class: "tag-row untagged" }, filterButton(store.isCaption ? "without a caption" : "untagged", untagged, { kind: "untagged" }));
    list.replaceChildren(first, ...tags.map(row));
    if (!tags.length && wanted) list.append(h("li", { class: "muted small" }, "No tag fits."));
    if (focused) list.querySelector(`[data-tag="${CSS.escape(focused)}"] .tag-name`)?.focus();
  }

  draw();
}
