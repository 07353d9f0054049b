// The chosen picture, large, with its chips; several chosen ones together; full screen on a phone.

import { factsOf, isClip, player } from "./clips.js";
import { cutting } from "./cutting.js";
import { count, h, isTyping } from "./dom.js";
import { tagEntry } from "./entry.js";
import { splitTags } from "./tags.js";

const PHONE = matchMedia("(max-width: 760px)");

export function inspector(root, store, icon) {
  const panel = root.querySelector("[data-inspector]");
  let shownKey = "";
  let wasUntagged = false;
  let chips;
  let foot;
  let entry;

  const chosen = () => store.items.filter((item) => store.selected.has(item.id));
  const keyOf = (items) => items.map((item) => item.id).join();

  store.addEventListener("change", draw);
  root.addEventListener("open-picture", (event) => {
    if (PHONE.matches) openFull();
    if (!PHONE.matches || event.detail?.type) focusEntry();
  });

  function openFull() {
    panel.classList.add("is-full");
    document.documentElement.classList.add("has-full-editor");
    panel.querySelector("[data-done]")?.focus();
  }

  function closeFull() {
    panel.classList.remove("is-full");
    document.documentElement.classList.remove("has-full-editor");
    root.querySelector(`[data-item="${CSS.escape(store.current ?? "")}"]`)?.focus();
  }

  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel.classList.contains("is-full")) closeFull();
    if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && !isTyping(event.target) && !event.target.matches("video")) {
      event.preventDefault();
      store.step(event.key === "ArrowRight" ? 1 : -1);
    }
  });

  let touch = null;
  panel.addEventListener("touchstart", (event) => {
    touch = event.target.closest("[data-large]") && !event.target.matches("video") && event.touches.length === 1 ? [event.touches[0].clientX, event.touches[0].clientY] : null;
  }, { passive: true });
  panel.addEventListener("touchend", (event) => {
    if (!touch) return;
    const dx = event.changedTouches[0].clientX - touch[0];
    const dy = event.changedTouches[0].clientY - touch[1];
    if (Math.abs(dx) > 50 && Math.abs(dx) > 2 * Math.abs(dy)) store.step(dx < 0 ? 1 : -1);
    touch = null;
  });

  function draw() {
    const items = chosen();
    panel.hidden = !items.length;
    root.classList.toggle("has-choice", items.length > 0);
    if (!items.length) {
      if (panel.classList.contains("is-full")) closeFull();
      shownKey = "";
      return;
    }
    if (keyOf(items) !== shownKey) {
      shownKey = keyOf(items);
      wasUntagged = items.every((item) => !item.label);
      build(items);
    }
    fill(items);
  }

  function build(items) {
    const typing = panel.contains(document.activeElement) && document.activeElement.matches(".tag-entry, .caption-entry");
    const one = items.length === 1 ? items[0] : null;
    chips = h("ul", { class: "plain label-chips", "aria-label": "Tags" });
    foot = h("p", { class: "muted small inspector-foot" });
    const field = store.isCaption && one ? captionField(one) : entryField();
    panel.replaceChildren(
      h(
        "div",
        { class: "inspector-head row between" },
        h("button", { type: "button", class: "btn small phone-only", "data-done": true, onclick: closeFull }, "Done"),
        h("span", { class: "muted small" }, one ? `${store.items.indexOf(one) + 1} of ${store.items.length}` : `${items.length} chosen`),
        one && h("span", { class: "row inspector-steps" },
          h("button", { type: "button", class: "btn small icon-only", "aria-label": `${store.noun === "clip" ? "Clip" : "Picture"} before`, onclick: () => store.step(-1) }, icon("chevron-left")),
          h("button", { type: "button", class: "btn small icon-only", "aria-label": `Next ${store.noun}`, onclick: () => store.step(1) }, icon("chevron-right"))),
      ),
      one ? large(one) : collage(items),
      h("div", { class: "inspector-edit stack tight" }, chips, field, foot),
      one && isClip(one) && store.families.length ? cutting(store, one) : "",
    );
    if (typing) focusEntry();
  }

  function large(item) {
    return h(
      "figure",
      { class: "inspector-picture", "data-large": true },
      isClip(item) ? player(item) : h("img", { src: item.url, alt: item.label || item.name, width: item.width, height: item.height, draggable: "false" }),
      h("figcaption", { class: "muted small" },
        h("span", {}, factsOf(item, store.noun)),
        h("button", { type: "button", class: "link", onclick: () => root.dispatchEvent(new CustomEvent("remove-chosen")) }, "Remove")),
    );
  }

  function collage(items) {
    return h("div", { class: "inspector-collage" }, items.slice(0, 9).map((item) => h("img", { src: item.thumb_url, alt: item.name, width: "96", height: "72" })));
  }

  function entryField() {
    entry = tagEntry({
      placeholder: chosen().length > 1 ? `Add a tag to ${count(chosen().length, store.noun)}, Enter` : "Add a tag, Enter",
      label: "Add tags, divided by commas",
      counts: () => store.tagCounts(),
      present: () => (chosen().length === 1 ? splitTags(chosen()[0].label) : []),
      add: (tags) => {
        const fast = wasUntagged && chosen().length === 1;
        store.addTags(chosen(), tags);
        if (fast) goOn();
      },
      next: goOn,
      step: (by) => store.step(by),
      removeLast: () => {
        const [item] = chosen();
        const tags = splitTags(item.label);
        if (chosen().length === 1 && tags.length) store.removeTag([item], tags.at(-1));
      },
    });
    return entry.element;
  }

  function captionField(item) {
    const field = h("textarea", {
      class: "caption-entry", rows: "4", "aria-label": "Caption", placeholder: store.noun === "clip" ? "Say what is seen and how it moves, Enter" : "Describe the picture in a sentence, Enter",
      value: item.label,
      onchange: () => store.setLabel(item, field.value.trim().replace(/\s+/g, " ")),
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        store.setLabel(item, field.value.trim().replace(/\s+/g, " "));
        goOn();
      },
    });
    entry = { focus: () => field.focus(), field };
    return field;
  }

  function goOn() {
    const next = store.nextUntagged();
    if (next && !store.shown().includes(next)) store.filter = null;
    if (next) store.choose(next.id);
    else store.step(1);
    focusEntry();
  }

  function focusEntry() {
    entry?.focus();
  }

  function commonTags(items) {
    const [first, ...rest] = items.map((item) => splitTags(item.label));
    return first.filter((tag) => rest.every((tags) => tags.includes(tag)));
  }

  function fill(items) {
    const tags = store.isCaption && items.length === 1 ? [] : commonTags(items);
    const focused = panel.contains(document.activeElement) ? document.activeElement.closest("[data-chip]")?.dataset.chip : null;
    const locked = store.trigger && h("li", { class: "chip trigger", title: "The trigger word is put in front of every label when the training starts" }, icon("lock"), store.trigger);
    chips.replaceChildren(...[locked, ...tags.map((tag) => chip(items, tag))].filter(Boolean));
    if (focused) (chips.querySelector(`[data-chip="${CSS.escape(focused)}"] button`) ?? chips.querySelector("button") ?? entry.field).focus();
    foot.textContent = words(items, tags);
    const caption = panel.querySelector(".caption-entry");
    if (caption && document.activeElement !== caption) caption.value = items[0].label;
  }

  function chip(items, tag) {
    return h(
      "li",
      { class: "chip", "data-chip": tag },
      tag,
      h("button", { type: "button", "aria-label": `Remove ${tag}${items.length > 1 ? ` from ${count(items.length, store.noun)}` : ""}`, onclick: () => store.removeTag(items, tag) }, icon("x")),
    );
  }

  function words(items, tags) {
    if (items.length > 1) return tags.length ? "Tags that all of them have." : "They have no tag in common.";
    if (store.isCaption) return `Enter: next ${store.noun}. Shift+Enter: new line.`;
    const number = tags.length ? count(tags.length, "tag") : "No tags yet";
    return `${number} · Enter in the empty field: next untagged · ← → next ${store.noun}`;
  }

  draw();
  return { focusEntry, closeFull };
}
