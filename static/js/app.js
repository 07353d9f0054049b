// What every page needs: htmx, the theme switch, menus that close, copy buttons, the search key.
// Islands (uploader, lightbox, charts) are modules of their own that pages load when they need them.

import htmx from "htmx.org";
import "./clips.js";
import { copyText } from "./copy.js";

window.htmx = htmx;
// What a person opened stays open when the server's words around it are renewed.
htmx.registerExtension("keep-open", {
  htmx_before_morph_attr: (element, { attrName }) => !(attrName === "open" && element.matches("details")),
});

const root = document.documentElement;
const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]");

function switchTheme() {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
}

document.addEventListener("click", (event) => {
  const target = event.target;
  if (target.closest("[data-theme-switch]")) switchTheme();
  const copy = target.closest("[data-copy]");
  if (copy) copyText(copy.dataset.copy, copy);
  const opener = target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open)?.showModal();
  const closer = target.closest("[data-close]");
  if (closer) closer.closest("dialog")?.close();
  for (const menu of document.querySelectorAll("[data-menu][open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});

// A form goes out once: the second click of a double click finds it on its way.
const sent = new Set();

document.addEventListener("submit", (event) => {
  const form = event.target;
  const words = form.dataset.confirm;
  if (event.defaultPrevented) return;
  if (sent.has(form) || (words && !window.confirm(words))) {
    event.preventDefault();
  } else if (form.method === "post") {
    sent.add(form);
    form.setAttribute("aria-busy", "true");
    setTimeout(() => release(form), 10_000);
  }
});

function release(form) {
  sent.delete(form);
  form.removeAttribute("aria-busy");
}

// The page comes back from the browser's memory as it was left.
addEventListener("pageshow", () => sent.forEach(release));

const closeMenu = (menu) => {
  if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
  menu.open = false;
};

document.addEventListener("focusin", (event) => {
  for (const menu of document.querySelectorAll("[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !isTyping(event.target) && !event.ctrlKey && !event.metaKey) {
    const search = document.querySelector("[data-search-key]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    const form = event.target.closest("form[data-submit-key]");
    if (form) {
      event.preventDefault();
      form.requestSubmit();
    }
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("[data-menu][open]")) closeMenu(menu);
  }
});

document.querySelector("[data-focus]")?.focus();
