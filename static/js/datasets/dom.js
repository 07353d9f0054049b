// Small helpers for islands that draw themselves: elements, icons, and words for screen readers.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value" || name === "disabled" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Icons come from the page's template, which is where the sprite's address is known.
export function iconsOf(root) {
  const found = {};
  for (const svg of root.querySelector("template[data-icons]").content.querySelectorAll("svg")) {
    found[svg.querySelector("use").getAttribute("href").split("#")[1]] = svg;
  }
  return (name) => found[name].cloneNode(true);
}

export function say(words) {
  const live = document.getElementById("live");
  if (live) live.textContent = words;
}

export function count(number, word, words = `${word}s`) {
  return `${number} ${number === 1 ? word : words}`;
}

export const isTyping = (target) => Boolean(target.closest("input:not([type=checkbox]), textarea, select"));
