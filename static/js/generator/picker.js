// The dialog to choose models, LoRAs, embeddings and pictures from; and the LoRAs' cards.

import { announce } from "../copy.js";
import { fieldsOf, hasPointer, theForm } from "./dom.js";
import { redraw, save } from "./memory.js";
import { insert } from "./prompt.js";

const TITLES = {
  Checkpoint: "Choose a model",
  LORA: "Add a LoRA",
  TextualInversion: "Add an embedding",
  Picture: "Start from a picture of yours",
};
let kind = "LORA";
let asked = 0;
let timer;

const dialog = () => document.getElementById("picker");
const results = () => document.getElementById("picker-results");
const query = () => document.getElementById("picker-query");

function address() {
  const form = theForm();
  if (kind === "Picture") return `/generate/pictures?${new URLSearchParams({ query: query().value })}`;
  const base = form.querySelector("[data-model]").dataset.base;
  const version = form.elements.model_version_id.value;
  return `/generate/picker?${new URLSearchParams({ kind, base, version, query: query().value })}`;
}

async function search() {
  const mine = ++asked;
  try {
    const answer = await fetch(address(), { headers: { "HX-Request": "true" } });
    const login = answer.headers.get("HX-Redirect");
    if (login) location.assign(login);
    else if (mine === asked) results().innerHTML = await answer.text();
  } catch {
    if (mine === asked) results().textContent = "There is no connection. Close this and try again.";
  }
}

export function openPicker(which) {
  kind = which;
  query().value = "";
  query().placeholder = which === "Picture" ? "Search in the prompts" : "Search by name";
  document.getElementById("picker-title").textContent = TITLES[which];
  results().textContent = "";
  dialog().showModal();
  if (hasPointer()) query().focus();
  search();
}

function setCover(card, id) {
  const place = card.querySelector("[data-cover]");
  if (!id) return;
  const picture = document.createElement("img");
  picture.src = `/images/${id}/file?width=160`;
  picture.alt = "";
  picture.dataset.cover = "";
  place.replaceWith(picture);
}

function addLora({ version, name, versionName, strength, words, cover }) {
  const form = theForm();
  if (form.querySelector(`[data-lora="${CSS.escape(version)}"]`)) {
    announce(`${name} is in the list already`);
    return;
  }
  const card = form.querySelector("[data-lora-pattern]").content.firstElementChild.cloneNode(true);
  card.dataset.lora = version;
  card.querySelector("[data-name]").textContent = name;
  card.querySelector("[data-version-name]").textContent = versionName;
  card.querySelector("[data-lora-remove]").setAttribute("aria-label", `Remove ${name}`);
  for (const field of card.querySelectorAll("[name]")) field.name = field.name.replace(/-0$/, `-${version}`);
  for (const field of card.querySelectorAll(".strength input")) {
    field.value = strength;
    field.setAttribute("aria-label", `Strength of ${name}${field.type === "number" ? " as a number" : ""}`);
  }
  setCover(card, cover);
  const triggers = words.split(",").map((word) => word.trim()).filter(Boolean);
  card.querySelector("[data-words]").append(...triggers.flatMap((word) => [chip(word), " "]));
  form.querySelector("[data-loras]").append(card);
  if (triggers[0] && !form.elements.prompt.value.includes(triggers[0])) insert(triggers[0]);
  form.dispatchEvent(new Event("change", { bubbles: true }));
}

function chip(word) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "chip trigger";
  made.dataset.insert = word;
  made.textContent = word;
  return made;
}

// Another model may have other sizes, samplers' defaults and LoRAs that fit: the server draws the form.
function chooseModel(version) {
  const { aspect, width, height, ...rest } = fieldsOf(theForm());
  redraw({ ...rest, model_version_id: version }).catch((problem) => announce(problem.message));
}

function choose({ dataset }) {
  dialog().close();
  if (dataset.pick === "LORA") addLora(dataset);
  else if (dataset.pick === "Checkpoint") chooseModel(dataset.version);
  else if (dataset.pick === "TextualInversion") insert(dataset.file, true);
}

export function initPicker() {
  document.addEventListener("click", ({ target }) => {
    const opener = target.closest("[data-pick-open]");
    if (opener) openPicker(opener.dataset.pickOpen);
    const word = target.closest("[data-insert]");
    if (word) insert(word.dataset.insert);
    if (target.closest("[data-lora-remove]")) {
      const form = theForm();
      target.closest(".lora-card").remove();
      form.dispatchEvent(new Event("change", { bubbles: true }));
      save();
    }
    const pick = target.closest("#picker-results [data-pick]");
    if (pick) choose(pick);
  });
  query().addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 200);
  });
}
