// The data set editor: joins uploader, tags, pictures and the chosen picture around one store.
// Tells the page around it by the event "dataset-change" on the section, with {items, labelled}.

import { checks } from "./datasets/checks.js";
import { count, h, iconsOf, isTyping, say } from "./datasets/dom.js";
import { grid } from "./datasets/grid.js";
import { inspector } from "./datasets/inspector.js";
import { Store } from "./datasets/store.js";
import { tagList } from "./datasets/tag-list.js";
import { toast } from "./datasets/toast.js";
import { uploader } from "./uploader.js";

function start(root) {
  const state = JSON.parse(root.querySelector("[data-editor-state]").textContent);
  const store = new Store(state);
  const icon = iconsOf(root);
  const columns = root.querySelector("[data-columns]");
  const undo = root.querySelector("[data-undo]");
  const panel = root.querySelector("[data-tag-panel]");

  tagList(root, store, icon);
  const pictures = grid(root, store);
  checks(root, store);
  const chosen = inspector(root, store, icon);
  uploader(root, store, state.sessionBytes);
  if (matchMedia("(max-width: 960px)").matches) panel.open = false;

  function frame() {
    const any = store.items.length > 0;
    columns.hidden = !any;
    root.classList.toggle("is-empty", !any);
    const buttons = root.querySelector("[data-add-buttons]");
    if (buttons) buttons.hidden = !any;
    for (const one of document.querySelectorAll("[data-when-pictures]")) one.hidden = !any;
    for (const one of document.querySelectorAll("[data-set-count]")) one.textContent = count(store.items.length, store.noun);
    if (undo) undo.disabled = !store.undoStack.length;
    root.dispatchEvent(new CustomEvent("dataset-change", {
      bubbles: true,
      detail: { items: store.items.length, labelled: store.items.filter((item) => item.label).length },
    }));
  }

  async function takeBack() {
    const words = await store.undo();
    if (words) toast(`Undone: ${words}`);
  }

  store.addEventListener("change", (event) => {
    frame();
    if (event.detail === "choice") pictures.focusCurrent();
  });
  store.addEventListener("done", (event) => toast(event.detail, "Undo", takeBack));
  store.addEventListener("problem", (event) => toast(event.detail.message));
  undo?.addEventListener("click", takeBack);

  root.addEventListener("remove-chosen", () => askToRemove([...store.selected]));
  root.addEventListener("remove-items", (event) => askToRemove(event.detail));

  root.addEventListener("uploads-done", chooseFirst);

  // Where there is room for it, a picture stands open at once: the first that waits for its label.
  function chooseFirst() {
    const roomy = matchMedia("(min-width: 961px)").matches;
    const first = store.items.find((item) => !item.label) ?? store.items[0];
    if (roomy && first && !store.current) store.choose(first.id);
  }

  function askToRemove(ids) {
    if (!ids.length) return;
    const words = ids.length === 1 ? `Remove ${store.find(ids[0]).name} from this set?` : `Remove ${count(ids.length, store.noun)} from this set?`;
    const dialog = h(
      "dialog",
      { "aria-label": words },
      h("form", { method: "dialog", class: "stack" },
        h("h2", {}, words),
        h("p", { class: "muted" }, "Their labels go with them. This cannot be undone."),
        h("div", { class: "row" }, h("button", { class: "btn danger", value: "yes" }, "Remove"), h("button", { class: "btn", value: "no" }, "Keep"))),
    );
    dialog.addEventListener("close", () => {
      if (dialog.returnValue === "yes") store.removeItems(ids).then(() => say(`${count(ids.length, store.noun)} removed`));
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  document.addEventListener("keydown", (event) => {
    const undoes = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z";
    if (undoes && !(isTyping(event.target) && event.target.value)) {
      event.preventDefault();
      takeBack();
    } else if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && event.target === document.body && store.current) {
      event.preventDefault();
      store.step(event.key === "ArrowRight" ? 1 : -1);
    }
  });

  window.addEventListener("beforeunload", (event) => {
    if (store.pending) event.preventDefault();
  });

  frame();
  const asked = new URLSearchParams(location.search).get("item");
  if (asked && store.find(asked)) store.choose(asked);
  else chooseFirst();
  return chosen;
}

// What stands in for this script where none runs.
for (const plain of document.querySelectorAll("[data-plain]")) plain.remove();
for (const root of document.querySelectorAll("[data-dataset-editor]")) start(root);
