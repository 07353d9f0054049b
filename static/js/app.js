// What every page needs: htmx, the theme switch, menus that close, copy buttons, the search key.
// Islands (uploader, lightbox, charts) are modules of their own that pages load when they need them.

import htmx from "htmx.org";
import { copyText } from "./copy.js";

window.htmx = htmx;

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

document.addEventListener("submit", (event) => {
  const words = event.target.dataset.confirm;
  if (words && !window.confirm(words)) event.preventDefault();
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
    for (const menu of document.querySelectorAll("[data-menu][open]")) menu.open = false;
  }
});

document.querySelector("[data-focus]")?.focus();
