// The picture to start from: dropped, chosen, or one of one's own; with the mask that lies on it.

import { announce } from "../copy.js";
import { live, post, theForm } from "./dom.js";
import { save } from "./memory.js";
import { editMask } from "./mask.js";
import { openPicker } from "./picker.js";
import { setSize } from "./settings.js";

const told = (words) => {
  theForm().querySelector("[data-start-told]").textContent = words;
};

export async function keep(file) {
  const data = new FormData();
  data.append("file", file, file.name || "picture.png");
  return (await post("/generate/pictures", data)).json();
}

/** Upload a picture and start from it. */
export async function startFromFile(file) {
  open();
  told("Sending the picture …");
  try {
    const kept = await keep(file);
    choose(kept.source, kept.url);
  } catch (problem) {
    told(problem.message);
  }
}

export function startFromImage(id) {
  open();
  choose(`image:${id}`, `/images/${id}/file`);
}

function open() {
  theForm().querySelector('[data-part="start"]').open = true;
}

function choose(source, url) {
  const form = theForm();
  form.elements.start.value = source;
  form.elements.mask.value = "";
  const picture = form.querySelector("[data-start-image]");
  picture.addEventListener("load", () => shape(), { once: true });
  picture.src = url;
  told("");
  live("The picture is the start now");
  show(form);
}

function show(form) {
  const started = Boolean(form.elements.start.value);
  const masked = Boolean(form.elements.mask.value);
  form.querySelector("[data-start-drop]").hidden = started;
  form.querySelector("[data-start-chosen]").hidden = !started;
  for (const part of form.querySelectorAll("[data-mask-remove], [data-mask-only], [data-mask-image]")) part.hidden = !masked;
  const word = form.querySelector("[data-mask-word]"); // A clip's first frame has no mask.
  if (word) word.textContent = masked ? "Change the mask" : "Draw a mask";
  form.dispatchEvent(new Event("change", { bubbles: true }));
  save();
}

// A size of the picture's shape, with about as many pixels as the model likes.
function shape() {
  const form = theForm();
  const picture = form.querySelector("[data-start-image]");
  if (!picture.naturalWidth) return;
  const { defaultWidth, defaultHeight, multiple, minSide, maxSide } = form.dataset;
  const ratio = picture.naturalWidth / picture.naturalHeight;
  const area = Number(defaultWidth) * Number(defaultHeight);
  const fit = (side) => Math.min(Math.max(Math.round(side / multiple) * multiple, Number(minSide)), Number(maxSide));
  setSize(form, fit(Math.sqrt(area * ratio)), fit(Math.sqrt(area / ratio)));
}

async function mask() {
  const form = theForm();
  const picture = form.querySelector("[data-start-image]");
  const shown = form.querySelector("[data-mask-image]");
  const drawn = await editMask(picture, form.elements.mask.value ? shown : null);
  if (!drawn) return;
  told("Sending the mask …");
  try {
    const kept = await keep(new File([drawn], "mask.png", { type: "image/png" }));
    form.elements.mask.value = kept.source;
    shown.src = kept.url;
    told("");
    show(form);
  } catch (problem) {
    told(problem.message);
  }
}

function clear(name) {
  const form = theForm();
  form.elements[name].value = "";
  if (name === "start") form.elements.mask.value = "";
  show(form);
}

export function initStart() {
  document.addEventListener("click", (event) => {
    const { target } = event;
    if (target.closest("[data-start-choose]")) theForm().querySelector("[data-start-file]").click();
    if (target.closest("[data-start-own]")) openPicker("Picture");
    if (target.closest("[data-start-shape]")) shape();
    if (target.closest("[data-start-remove]")) clear("start");
    if (target.closest("[data-mask-remove]")) clear("mask");
    if (target.closest("[data-mask-open]")) mask();
    const from = target.closest("a[data-start-from]");
    if (from && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      startFromImage(from.dataset.startFrom);
      theForm().querySelector('[data-part="start"]').scrollIntoView({ block: "center" });
      announce("The picture is the start now");
    }
    const own = target.closest("#picker-results [data-start-image]");
    if (own) {
      document.getElementById("picker").close();
      startFromImage(own.dataset.startImage);
    }
  });
  document.addEventListener("change", ({ target }) => {
    if (!target.matches("[data-start-file]") || !target.files.length) return;
    startFromFile(target.files[0]);
    target.value = "";
  });
}
