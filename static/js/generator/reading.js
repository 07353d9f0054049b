// A picture or a clip dropped on the page, or generation data pasted into the prompt, fills the form.

import { live, post, theForm } from "./dom.js";
import { replace } from "./memory.js";
import { startFromFile } from "./start.js";

const PAIRS = /(?:^|[\n,])\s*[A-Z][\w -]{1,30}:\s*[^,\n]+/g;
const isInfotext = (text) => /(?:^|\n)\s*Steps:\s*\d+/.test(text) && (text.match(PAIRS) ?? []).length >= 3;
const problem = (words) => {
  const box = document.createElement("div");
  box.className = "notice bad";
  box.textContent = words;
  document.getElementById("generate-error").replaceChildren(box);
  box.scrollIntoView({ block: "nearest" });
};

async function fill(data) {
  data.append("base", theForm().elements.model_version_id.value);
  try {
    const form = await replace(await post("/generate/read", data), true);
    const words = form.querySelector("[data-filled] span")?.textContent;
    form.scrollTo?.({ top: 0 });
    form.querySelector("[data-filled]")?.scrollIntoView({ block: "nearest" });
    if (words) live(words);
  } catch (refused) {
    problem(refused.message);
  }
}

function fromFile(file) {
  const data = new FormData();
  data.append("file", file, file.name);
  return fill(data);
}

function fromText(text) {
  const data = new FormData();
  data.append("text", text);
  return fill(data);
}

const pictureIn = (transfer) => [...(transfer?.files ?? [])].find((file) => /^(image|video)\//.test(file.type));

export function initReading() {
  let depth = 0;
  const mark = (on) => document.querySelector(".generator")?.classList.toggle("dropping", on);
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => carries(event) && ++depth && mark(true));
  document.addEventListener("dragleave", (event) => {
    if (carries(event) && --depth <= 0) mark(false);
  });
  document.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    depth = 0;
    mark(false);
    if (!carries(event)) return;
    event.preventDefault();
    const file = pictureIn(event.dataTransfer);
    if (!file) problem("That is no picture and no clip. Drop a PNG, JPEG, WebP or MP4.");
    else if (event.target.closest("[data-part=start]")) startFromFile(file);
    else fromFile(file);
  });
  document.addEventListener("paste", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const file = pictureIn(event.clipboardData);
    const text = event.clipboardData?.getData("text/plain") ?? "";
    const typing = event.target.closest?.("input, select");
    if (file && !typing) {
      event.preventDefault();
      fromFile(file);
    } else if (isInfotext(text) && !typing) {
      event.preventDefault();
      fromText(text);
    }
  });
}
