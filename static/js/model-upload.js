// "Upload a model": one large file in parts, resumed after a closed tab or a lost server, then on to the form.

import { Refusal } from "./datasets/api.js";
import { say } from "./datasets/dom.js";
import { showFocus, takeDrops } from "./upload/drop.js";
import { forget, mayBe, remember, sessionOf } from "./upload/memory.js";
import { Pace } from "./upload/pace.js";
import { Session } from "./upload/session.js";
import { bytes, share, timeLeft } from "./upload/words.js";

const root = document.querySelector("[data-model-upload]");
const one = (name) => root.querySelector(`[data-${name}]`);
const input = one("file");
const zone = one("dropzone");
const panel = one("sending");
const rows = [...root.querySelectorAll("[data-upload]")];
let stopper = null;

class Wrong extends Error {}

function problem(words) {
  one("problem").textContent = words;
  one("problem").hidden = !words;
  if (words) one("problem").scrollIntoView({ block: "nearest" });
}

// What can be said before a byte has gone out.
function check(files) {
  if (files.length !== 1) throw new Wrong("One file at a time: choose a single .safetensors file or a zip.");
  const [file] = files;
  const ends = (endings) => endings.split(" ").some((ending) => file.name.toLowerCase().endsWith(ending));
  if (ends(root.dataset.pickles)) {
    throw new Wrong(`${file.name} is a pickle, a kind of file that can run programs when it is opened, so it is never taken. Upload the .safetensors form of the model: most pages offer one, and ComfyUI (Load Checkpoint, then Save Checkpoint) makes one.`);
  }
  if (!ends(root.dataset.endings)) throw new Wrong(`${file.name} is no model file. Choose a .safetensors file, or a diffusers folder as a .zip.`);
  if (!file.size) throw new Wrong(`${file.name} is empty. Copy or download it again.`);
  return file;
}

// The session that this file belongs to: as this browser remembers it, else the one in the list.
function known(file) {
  const fits = (row) => row.dataset.name === file.name && Number(row.dataset.size) === file.size && row.dataset.state !== "failed";
  return sessionOf(file) ?? rows.find((row) => fits(row) && mayBe(row.dataset.upload, file))?.dataset.upload ?? null;
}

async function opened(session, id) {
  if (!id) return session.open();
  try {
    return await session.open(id);
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(id);
    return session.open();
  }
}

async function upload(file) {
  stopper = new AbortController();
  const pace = new Pace();
  const session = new Session(file, {
    signal: stopper.signal,
    tries: Infinity,
    onProgress: (arrived) => show(pace.at(arrived), arrived, file.size),
    onWait: wait,
  });
  begin(file);
  let state = await opened(session, known(file));
  if (state.state === "failed") {
    await session.forget();
    state = await session.open();
  }
  remember(state.id, file);
  if (state.state === "complete") return leave(state.id);
  show(null, session.arrived, file.size);
  if (state.missing.length < state.parts) say(`Going on: ${share(session.arrived, file.size)} is there already.`);
  try {
    await session.send();
    const output = await session.complete(checking);
    if (output.refusal) throw new Refusal(422, output.refusal);
  } catch (error) {
    // What cannot be used is not offered to be gone on with.
    if (error.status === 422) {
      forget(state.id);
      await session.forget();
    }
    throw error;
  }
  leave(state.id);
}

function wait(words) {
  one("rate").textContent = `${words[0].toUpperCase()}${words.slice(1)} …`;
}

function begin(file) {
  problem("");
  zone.hidden = true;
  panel.hidden = false;
  one("unfinished")?.setAttribute("hidden", "");
  one("name").textContent = file.name;
  one("hint").hidden = false;
  tell("Beginning …");
  addEventListener("beforeunload", ask);
}

function show(rate, arrived, size) {
  one("progress").value = arrived / size;
  tell(arrived >= size ? "All of it has arrived" : `${share(arrived, size)} · ${bytes(arrived)} of ${bytes(size)}`);
  one("rate").textContent = rate && arrived < size ? `${bytes(rate)}/s · ${timeLeft((size - arrived) / rate)}` : "";
  announce(arrived / size);
}

let announced = 0;

// Screen readers hear every tenth, not every part.
function announce(fraction) {
  const tenth = Math.floor(fraction * 10);
  if (tenth > announced) say(`${tenth * 10} % uploaded`);
  announced = tenth;
}

const WAITS = { "no-worker": "It has arrived and waits: no worker is running to check it. Ask the admin to start one.", queued: "It has arrived and waits for a worker to check it …" };

function checking(job) {
  one("progress").removeAttribute("value");
  one("rate").textContent = "";
  one("hint").hidden = true;
  const words = job.status === "queued" ? (WAITS[job.status_reason] ?? WAITS.queued) : "Checking the file: its hashes are computed …";
  if (words !== one("words").textContent) say(words);
  tell(words);
}

function tell(words) {
  one("words").textContent = words;
}

function leave(id) {
  removeEventListener("beforeunload", ask);
  forget(id);
  location.assign(`${root.dataset.address}?upload=${id}`);
}

function end(words) {
  removeEventListener("beforeunload", ask);
  stopper = null;
  zone.hidden = false;
  panel.hidden = true;
  one("unfinished")?.removeAttribute("hidden");
  problem(words);
}

const ask = (event) => event.preventDefault();

async function take(files) {
  if (stopper || !files.length) return;
  try {
    await upload(check(files));
  } catch (error) {
    end(error.message);
    if (error.name === "AbortError") location.reload(); // the list says what is kept
  }
}

// "Go on" asks for the file again: a page may not open files by itself.
let wanted = null;

for (const row of rows) {
  const button = row.querySelector("[data-go-on]");
  if (!button) continue;
  button.hidden = false;
  button.addEventListener("click", () => {
    if (row.dataset.state === "completing") return finish(row);
    wanted = row;
    input.click();
  });
}

// All parts are there; only the check is still to be waited for.
async function finish(row) {
  stopper = new AbortController();
  const session = new Session({ name: row.dataset.name, size: Number(row.dataset.size) }, { signal: stopper.signal, tries: Infinity, onWait: wait });
  try {
    begin(session.file);
    await session.open(row.dataset.upload);
    await session.complete(checking);
    leave(row.dataset.upload);
  } catch (error) {
    end(error.message);
  }
}

function chosen() {
  const files = [...input.files];
  input.value = "";
  const row = wanted;
  wanted = null;
  const [file] = files;
  if (row && file && (file.name !== row.dataset.name || file.size !== Number(row.dataset.size))) {
    problem(`That is another file. To go on, choose ${row.dataset.name} with ${bytes(Number(row.dataset.size))}.`);
    return;
  }
  take(files);
}

root.querySelector("[data-plain]").remove();
input.addEventListener("change", chosen);
input.addEventListener("cancel", () => (wanted = null));
one("stop").addEventListener("click", () => stopper?.abort());
root.querySelectorAll("label.btn").forEach(showFocus);
takeDrops(root, (transfer) => take([...transfer.files]));
// What was chosen before this script came is taken as well.
if (input.files.length) chosen();
