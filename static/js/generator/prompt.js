// The prompt: weighted parts underlined, tokens counted (about), weights by keys, trigger words.

import { hasPointer, theForm } from "./dom.js";

const HEAVY = 1.6;
const CHANGES = /\||:\s*[\d.]+\s*$/;
const TOKEN = /\\[\\()[\]]|[([]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[)\]]|[^\\()[\]:]+|[^]/g;

/** A1111's grammar: every stretch of the text as [start, end, weight]; brackets weigh as what is in them. */
export function weightsOf(text) {
  const runs = [];
  const open = { ")": [], "]": [] };
  const multiply = (from, factor) => {
    for (const run of runs.slice(from)) run[2] *= factor;
  };
  for (const match of text.matchAll(TOKEN)) {
    const [part, weight] = match;
    const span = [match.index, match.index + part.length, 1];
    if (part === "(" || part === "[") {
      open[part === "(" ? ")" : "]"].push(runs.length);
      runs.push(span);
    } else if (weight !== undefined && open[")"].length) {
      runs.push(span);
      multiply(open[")"].pop(), Number(weight));
    } else if (part in open && open[part].length) {
      const from = open[part].pop();
      const inside = text.slice(runs[from][1], match.index);
      runs.push(span);
      // [a:b:0.4] and [a|b] change words while the picture is drawn; they weigh nothing.
      if (part === ")" || !CHANGES.test(inside)) multiply(from, part === ")" ? 1.1 : 1 / 1.1);
    } else runs.push(span);
  }
  for (const from of open[")"]) multiply(from, 1.1);
  for (const from of open["]"]) multiply(from, 1 / 1.1);
  return runs;
}

/** About how many tokens: words in pieces of some eight letters, each mark and digit for itself. */
export function tokensOf(text) {
  const plain = text.replace(/<[^<>]*>/g, "").replace(/:\s*[+-]?[\d.]+\s*\)/g, "").replace(/[()[\]\\]/g, "");
  const pieces = plain.match(/\p{L}+|\p{N}|[^\s\p{L}\p{N}]/gu) ?? [];
  return pieces.reduce((sum, piece) => sum + Math.max(1, Math.ceil(piece.length / 8)), 0);
}

function draw(area) {
  const mirror = area.parentElement.querySelector(".prompt-mirror");
  if (!mirror) return;
  const parts = weightsOf(area.value).map(([start, end, weight]) => {
    const text = area.value.slice(start, end);
    if (Math.abs(weight - 1) < 0.001) return text;
    const mark = document.createElement("span");
    mark.className = weight > HEAVY ? "heavy" : weight < 1 ? "light" : "weighted";
    mark.textContent = text;
    return mark;
  });
  mirror.replaceChildren(...parts, "\n");
  tell(area);
}

function tell(area) {
  const form = area.form;
  const place = form.querySelector(`[data-told="${area.name}"]`);
  const limit = Number(form.dataset.tokenLimit) || 75;
  const chunks = area.value.split(/\bBREAK\b/).map(tokensOf);
  const total = chunks.reduce((sum, count) => sum + count, 0);
  const needed = chunks.reduce((sum, count) => sum + Math.max(1, Math.ceil(count / limit)), 0);
  const words = [];
  if (total) words.push(`About ${total} of ${needed * limit} tokens${needed > 1 ? `, in ${needed} parts` : ""}.`);
  const heaviest = Math.max(0, ...weightsOf(area.value).map((run) => run[2]));
  place.textContent = words.join(" ");
  if (heaviest > HEAVY) {
    const warning = document.createElement("span");
    warning.className = "too-heavy";
    warning.textContent = ` A weight of ${heaviest.toFixed(2).replace(/\.?0+$/, "")} is very strong; above ${HEAVY} pictures often break.`;
    place.append(warning);
  }
}

export function insert(word, atEnd = false) {
  const prompt = theForm().elements.prompt;
  const text = prompt.value.trim();
  prompt.value = !text ? word : atEnd ? `${text}, ${word}` : `${word}, ${text}`;
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
  if (hasPointer()) prompt.focus();
}

function weigh(area, direction) {
  const { selectionStart: start, selectionEnd: end, value } = area;
  if (start === end) return;
  const chosen = value.slice(start, end);
  const tag = /^<(\w+):([^<>:]+):([\d.-]+)>$/.exec(chosen);
  const match = /^\((.*):([\d.]+)\)$/s.exec(chosen);
  const text = match ? match[1] : chosen;
  const step = tag ? 0.05 : 0.1;
  const weight = Math.round((Number(tag?.[3] ?? match?.[2] ?? 1) + direction * step) * 100) / 100;
  const next = tag ? `<${tag[1]}:${tag[2]}:${weight}>` : weight === 1 ? text : `(${text}:${weight})`;
  area.setRangeText(next, start, end, "select");
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

export function attachPrompt(form) {
  for (const area of [form.elements.prompt, form.elements.negative_prompt]) draw(area);
}

export function initPrompt() {
  document.addEventListener("input", ({ target }) => {
    if (target.matches("form[data-generator] .prompt-box textarea")) draw(target);
  });
  document.addEventListener("keydown", (event) => {
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const asked = event.ctrlKey || (event.altKey && event.shiftKey);
    if (!direction || !asked || !event.target.matches(".prompt-box textarea")) return;
    event.preventDefault();
    weigh(event.target, direction);
  });
}
