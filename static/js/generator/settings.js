// Sampler and schedule, seed, size, hires, grid: what is shown, what fits, and the words of closed parts.

import { fieldsOf, setField, theForm } from "./dom.js";

const HELP = {
  lora_strength: ["0.4-1.2 x5", "Strengths with commas between, or a range: 0.4-1.2 x5."],
  epoch: ["all", "Numbers of epochs, 1-10, or all."],
  sampler: ["Euler a, DPM++ 2M Karras", "Names of samplers with commas between."],
  steps: ["10-30 +5", "Numbers with commas between, or a range: 10-30 +5."],
  cfg_scale: ["3, 5, 7", "Numbers with commas between, or a range: 3-9 x4."],
  seed: ["1-4", "Seeds with commas between, or a range: 1-4. -1 is a random one."],
  prompt: ["red, green, blue", "Each of these takes the place of what is searched; empty search = the first."],
};

function schedules(form) {
  const { sampler, schedule } = form.elements;
  if (!schedule) return;
  const chosen = sampler.selectedOptions[0];
  const fitting = chosen.dataset.schedules.split("|");
  const was = schedule.value;
  schedule.replaceChildren(...fitting.map((name) => new Option(name, name)));
  schedule.value = fitting.includes(was) ? was : "Automatic";
  form.querySelector("[data-sampler-help]").textContent = chosen.dataset.help;
  for (const preset of form.querySelectorAll("[data-preset]")) {
    const means = (name) => (name === "Automatic" ? chosen.dataset.automatic : name);
    const on = preset.dataset.preset === sampler.value && means(preset.dataset.schedule) === means(schedule.value);
    preset.setAttribute("aria-pressed", String(on));
  }
}

/** Pixels that the form asks for. */
export function sizeOf(form) {
  const chosen = form.querySelector("input[name=aspect]:checked");
  const [width, height] = chosen?.value.includes("x")
    ? chosen.value.split("x")
    : [form.elements.width.value, form.elements.height.value];
  return [Number(width), Number(height)];
}

export function setSize(form, width, height) {
  const fits = [...form.querySelectorAll("input[name=aspect]")].find((input) => input.value === `${width}x${height}`);
  (fits ?? form.querySelector("[data-custom]")).checked = true;
  form.elements.width.value = width;
  form.elements.height.value = height;
  form.elements.width.dispatchEvent(new Event("change", { bubbles: true }));
}

function summaries(form) {
  const { sampler, schedule, steps, cfg_scale: cfg, seed, hires, compare, start, mask, denoise } = form.elements;
  const joined = !schedule || schedule.value === "Automatic" ? sampler.value : `${sampler.value} ${schedule.value}`;
  form.querySelector("[data-advanced-words]").textContent =
    `${joined}, ${steps.value} steps, CFG ${cfg.value}, seed ${seed.value && seed.value !== "-1" ? seed.value : "random"}`;
  const say = (part, words) => {
    form.querySelector(`[data-part="${part}"] [data-summary]`).textContent = words;
  };
  const anew = () => (denoise ? `${mask.value ? "only the mask, " : ""}${Math.round(denoise.value * 100)} % anew` : "a picture");
  if (start) say("start", start.value ? anew() : "none");
  if (!hires) return lengths(form);
  const [width, height] = sizeOf(form);
  const scale = Number(form.elements.hires_scale.value) || 1;
  const scaled = [width, height].map((side) => Math.round((side * scale) / 8) * 8).join(" × ");
  say("hires", hires.checked ? `× ${scale}, ${scaled}` : "off");
  form.querySelector("[data-hires-size]").textContent = `${width} × ${height} becomes ${scaled} pixels.`;
  say("compare", compare.checked ? axisWords(form) : "off");
}

// The same frames last longer where fewer of them are shown a second.
function lengths(form) {
  const { frames, fps } = form.elements;
  for (const option of frames.options)
    option.textContent = `${(option.value / fps.value).toFixed(1)} s · ${option.value} frames`;
}

function axisWords(form) {
  const words = ["x", "y"].map((side) => form.elements[`${side}_axis`]).filter((axis) => axis.value);
  return words.map((axis) => axis.selectedOptions[0].textContent.split(":")[0]).join(" × ");
}

function parts(form) {
  form.querySelector("[data-custom-size]").hidden = !form.querySelector("[data-custom]").checked;
  for (const part of form.querySelectorAll("[data-when]")) part.hidden = !form.elements[part.dataset.when].checked;
  const compared = form.elements.compare?.checked ?? false;
  for (const input of form.querySelectorAll("input[name=quantity]")) input.disabled = compared;
  for (const axis of form.querySelectorAll("[data-axis]")) showAxis(form, axis);
}

function showAxis(form, axis) {
  const side = axis.dataset.axis;
  const chosen = form.elements[`${side}_axis`].value;
  for (const only of axis.querySelectorAll("[data-axis-only]")) only.hidden = only.dataset.axisOnly !== chosen;
  axis.querySelector("[data-axis-values]").hidden = !chosen;
  const [example, words] = HELP[chosen] ?? ["", ""];
  form.elements[`${side}_values`].placeholder = example;
  axis.querySelector("[data-axis-help]").textContent = words;
  const list = axis.querySelector("[data-lora-list]");
  const cards = [...form.querySelectorAll("[data-loras] [data-lora], [data-loras] [data-epoch]")];
  const was = list.value || list.dataset.chosen;
  list.replaceChildren(
    ...cards.map((card) => new Option(card.querySelector(".strong").textContent, card.dataset.lora ?? "")),
  );
  if (!cards.length) list.replaceChildren(new Option("add a LoRA first", ""));
  if ([...list.options].some((option) => option.value === was)) list.value = was;
}

/** The seed that the newest drawing here began with. */
const lastSeed = () => document.querySelector("#queue [data-seed]")?.dataset.seed ?? "";

export function attachSettings(form) {
  schedules(form);
  parts(form);
  summaries(form);
}

export function initSettings() {
  const ours = (target) => target.closest?.("form[data-generator]");
  document.addEventListener("input", ({ target }) => {
    const form = ours(target);
    if (!form) return;
    const strength = target.closest(".strength");
    for (const other of strength?.querySelectorAll("input") ?? []) if (other !== target) other.value = target.value;
    summaries(form);
  });
  document.addEventListener("change", ({ target }) => {
    const form = ours(target) ?? (target.matches?.("form[data-generator]") ? target : null);
    if (!form) return;
    if (target.name === "sampler" || target.name === "schedule") schedules(form);
    parts(form);
    summaries(form);
  });
  document.addEventListener("click", ({ target }) => {
    const form = theForm();
    const preset = target.closest("[data-preset]");
    if (preset) {
      setField(form, "sampler", preset.dataset.preset);
      setField(form, "schedule", preset.dataset.schedule);
    }
    if (target.closest("[data-seed-random]")) setField(form, "seed", "");
    if (target.closest("[data-seed-reuse]") && lastSeed()) setField(form, "seed", lastSeed());
  });
}

export const gridAsked = (form) => "compare" in fieldsOf(form);
