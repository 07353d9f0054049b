// Many files at once: four requests in parallel, each tried again when the line breaks, one tile each;
// of a large set several small pictures share a request, so that the server's limit of writes is not met.
// A label goes with the picture of its name; files over the form's limit go as an upload session in parts.

import { count, h, say } from "./datasets/dom.js";
import { filesOf } from "./datasets/drop.js";
import { showFocus, takeDrops } from "./upload/drop.js";
import { patiently, request } from "./upload/requests.js";
import { Session } from "./upload/session.js";

const PARALLEL = 4;
const MANY = 60;
const TOGETHER = 8;
const TOGETHER_BYTES = 8 << 20;
const LABEL = /\.(txt|caption)$/i;
const CHAFF = /(^|\/)(\.[^/]*|thumbs\.db|desktop\.ini)$|(^|\/)__MACOSX\//i;

const pathOf = (file) => file.path || file.webkitRelativePath || file.name;
const stemOf = (path) => path.replace(/\.[^./]+$/, "").toLowerCase();

// [{name, files}]: a picture with its label is one piece of work; labels alone go last, together.
// What is larger than `alone` goes in parts, so its label goes with the others.
export function pieces(files, alone = Infinity) {
  const wanted = files.filter((file) => !CHAFF.test(pathOf(file)));
  const labels = new Map(wanted.filter((file) => LABEL.test(file.name)).map((file) => [stemOf(pathOf(file)), file]));
  const work = [];
  for (const file of wanted.filter((one) => !LABEL.test(one.name))) {
    const label = file.size > alone ? undefined : labels.get(stemOf(pathOf(file)));
    if (label) labels.delete(stemOf(pathOf(file)));
    work.push({ name: file.name, files: label ? [file, label] : [file] });
  }
  const rest = [...labels.values()];
  if (work.length > MANY) return bundle(work).concat(bundle(rest.map((file) => ({ name: file.name, files: [file] }))));
  for (let at = 0; at < rest.length; at += 100) {
    const some = rest.slice(at, at + 100);
    work.push({ name: some.length === 1 ? some[0].name : count(some.length, "label file"), files: some });
  }
  return work;
}

function bundle(work) {
  const bundles = [];
  let room = 0;
  for (const piece of work) {
    const size = piece.files.reduce((sum, file) => sum + file.size, 0);
    if (!bundles.length || room < size || bundles.at(-1).pieces.length >= TOGETHER) {
      bundles.push({ pieces: [] });
      room = TOGETHER_BYTES;
    }
    room -= size;
    bundles.at(-1).pieces.push(piece);
  }
  return bundles.map(({ pieces: some }) => ({
    name: some.length > 1 ? `${some[0].name} and ${some.length - 1} more` : some[0].name,
    files: some.flatMap((piece) => piece.files),
  }));
}

class Batch {
  constructor(store, sessionBytes, onChange) {
    Object.assign(this, { store, sessionBytes, onChange });
    this.waiting = [];
    this.tiles = new Map();
    this.running = 0;
    this.reset();
  }

  reset() {
    this.total = 0;
    this.sent = new Map();
    this.done = 0;
    this.all = 0;
    this.rejected = [];
    this.duplicates = [];
    this.lonely = [];
    this.notes = new Set();
    this.stopper = new AbortController();
  }

  add(files) {
    if (!this.running && !this.waiting.length) this.reset();
    for (const work of pieces(files, this.sessionBytes)) {
      work.size = work.files.reduce((sum, file) => sum + file.size, 0);
      work.state = "waiting";
      this.total += work.size;
      this.all += 1;
      this.waiting.push(work);
    }
    this.onChange(this);
    while (this.running < PARALLEL && this.waiting.length) this.next();
  }

  stop() {
    this.waiting = [];
    this.stopper.abort();
  }

  get busy() {
    return this.running > 0 || this.waiting.length > 0;
  }

  get fraction() {
    const sent = [...this.sent.values()].reduce((sum, bytes) => sum + bytes, 0);
    return this.total ? Math.min(1, sent / this.total) : 0;
  }

  async next() {
    const work = this.waiting.shift();
    if (!work) return;
    this.running += 1;
    work.state = "sending";
    this.onChange(this, work);
    try {
      this.take(await this.send(work));
    } catch (error) {
      if (error.name !== "AbortError") for (const file of work.files) this.rejected.push(`${file.name}: ${error.message}`);
    }
    this.sent.set(work, work.size);
    this.running -= 1;
    this.done += 1;
    work.state = "done";
    this.onChange(this, work);
    this.next();
  }

  progress(work, sent) {
    this.sent.set(work, Math.min(sent, work.size));
    work.state = sent >= work.size ? "checking" : "sending";
    this.onChange(this, work);
  }

  waits(work, words) {
    work.state = words;
    this.onChange(this, work);
  }

  send(work) {
    const large = work.files.length === 1 && work.size > this.sessionBytes;
    return large ? this.bySession(work, work.files[0]) : this.byForm(work);
  }

  async byForm(work) {
    const { signal } = this.stopper;
    const form = () => {
      const data = new FormData();
      for (const file of work.files) data.append("files", file, pathOf(file));
      return data;
    };
    const answer = await patiently(
      () => request("POST", `${this.store.url}/items`, form(), { signal, progress: (sent) => this.progress(work, sent) }),
      (words) => this.waits(work, words), signal,
    );
    return answer.status === 202 ? this.follow(work, answer.body) : answer.body;
  }

  async bySession(work, file) {
    const session = this.session(work, file);
    const { id } = await session.open();
    await session.send();
    this.waits(work, "checking");
    await session.complete((job) => this.waits(work, job.status === "queued" ? "waiting for a worker" : "checking"));
    const { status, body } = await session.ask("POST", `${this.store.url}/items`, JSON.stringify({ upload: id }), { type: "application/json" });
    return status === 202 ? this.follow(work, body) : body;
  }

  session(work, file) {
    return new Session(file, { signal: this.stopper.signal, onProgress: (sent) => this.progress(work, sent), onWait: (words) => this.waits(work, words) });
  }

  // Waits for a worker's job; what it added is loaded anew.
  async follow(work, job) {
    const told = (current) => this.waits(work, current.status === "queued" ? "waiting for a worker" : "being read");
    const output = await this.session(work, work.files[0]).follow(job, told, 2000);
    await this.store.reload();
    return { ...output, accepted: [], labels: [] };
  }

  take(body) {
    this.store.add(body.accepted ?? []);
    for (const one of body.rejected ?? []) this.rejected.push(one.detail);
    for (const one of body.duplicates ?? []) this.duplicates.push(one);
    for (const one of body.labels ?? []) if (!one.item) this.lonely.push(one.name);
    for (const words of body.notes ?? []) this.notes.add(words);
    const unknown = [...(body.duplicates ?? []).map((one) => one.duplicate_of), ...(body.labels ?? []).map((one) => one.item)];
    if ((body.labels ?? []).some((one) => one.item) || unknown.some((id) => id && !this.store.find(id))) this.stale = true;
  }
}

export function uploader(root, store, sessionBytes) {
  const zone = root.querySelector("[data-dropzone]");
  if (!zone) return;
  const input = zone.querySelector("[data-files]");
  const folder = zone.querySelector("[data-folder]");
  const bar = root.querySelector("[data-uploads]");
  const problems = root.querySelector("[data-problems]");
  const list = h("ul", { class: "plain upload-tiles" });
  bar.append(list);
  const batch = new Batch(store, sessionBytes, show);
  let finished = true;

  const add = (files) => {
    if (!files.length) return;
    finished = false;
    batch.add(files);
  };

  function show(_, work) {
    bar.hidden = !batch.busy;
    bar.querySelector("[data-uploads-words]").textContent = `${batch.done} of ${batch.all} done`;
    bar.querySelector("[data-uploads-progress]").value = batch.fraction;
    if (work) tile(work);
    if (!batch.busy && !finished) finish();
  }

  function tile(work) {
    let made = batch.tiles.get(work);
    if (!made) {
      made = h("li", { class: "upload-tile" }, h("span", { class: "upload-name" }, work.name), h("progress", { max: "1", "aria-label": work.name }), h("span", { class: "muted small" }));
      batch.tiles.set(work, made);
      list.append(made);
    }
    made.querySelector("progress").value = work.size ? (batch.sent.get(work) ?? 0) / work.size : 0;
    made.lastChild.textContent = work.state;
    if (work.state === "done") {
      made.remove();
      batch.tiles.delete(work);
    }
  }

  async function finish() {
    finished = true;
    if (batch.stale) await store.reload().catch(() => {});
    batch.stale = false;
    report();
    root.dispatchEvent(new CustomEvent("uploads-done"));
    say(`Upload finished: ${count(store.items.length, store.noun)} in the set${batch.rejected.length ? `, ${count(batch.rejected.length, "file")} left out` : ""}.`);
  }

  // All errors at once, each with its file's name.
  function report() {
    const { rejected, duplicates, notes } = batch;
    const there = new Set(store.items.map((item) => stemOf(item.name)));
    const lonely = batch.lonely.filter((name) => !there.has(stemOf(name.split("/").at(-1))));
    problems.hidden = !rejected.length && !duplicates.length && !lonely.length && !notes.size;
    if (problems.hidden) return;
    const close = h("button", { type: "button", class: "btn small", onclick: () => (problems.hidden = true) }, rejected.length ? "Go on without them" : "Close");
    const parts = [];
    if (rejected.length) {
      parts.push(h("div", { class: "notice bad stack tight" }, h("strong", {}, `${count(rejected.length, "file was", "files were")} left out`), h("ul", {}, rejected.slice(0, 200).map((words) => h("li", {}, words)))));
    }
    if (duplicates.length) {
      const names = duplicates.slice(0, 20).map((one) => one.name).join(", ");
      parts.push(h("p", { class: "notice" }, `Already in the set: ${names}${duplicates.length > 20 ? ` and ${duplicates.length - 20} more` : ""}.`));
    }
    if (lonely.length) parts.push(h("p", { class: "notice" }, `${count(lonely.length, "label waits", "labels wait")} for a ${store.noun} of the same name: ${lonely.slice(0, 20).join(", ")}.`));
    for (const words of notes) parts.push(h("p", { class: "notice" }, words));
    problems.replaceChildren(...parts, close);
  }

  zone.addEventListener("submit", (event) => {
    const example = event.submitter?.matches("[data-example]");
    if (!example) return;
    event.preventDefault();
    useExample(event.submitter);
  });

  async function useExample(button) {
    button.disabled = true;
    try {
      const { body } = await request("POST", `${store.url}/example`, null);
      store.add(body.accepted);
      root.dispatchEvent(new CustomEvent("uploads-done"));
      say(`${count(body.accepted.length, store.noun)} added`);
    } catch (error) {
      batch.rejected = [`The example set could not be added: ${error.message}`];
      batch.duplicates = [];
      batch.lonely = [];
      batch.notes.clear();
      report();
    }
    button.disabled = false;
  }

  // What was chosen before this script came is taken as well: a slow connection must not swallow a choice.
  for (const field of [input, folder]) {
    const take = () => {
      add([...field.files]);
      field.value = "";
    };
    field.addEventListener("change", take);
    take();
  }
  if ("webkitdirectory" in folder) {
    folder.hidden = false;
    root.querySelector("[data-folder-label]").hidden = false;
  }
  root.querySelector("[data-choose]")?.addEventListener("click", () => input.click());
  bar.querySelector("[data-uploads-stop]").addEventListener("click", () => batch.stop());
  zone.querySelectorAll("label.btn").forEach(showFocus);
  takeDrops(root, async (transfer) => add(await filesOf(transfer)));
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    add(files);
  });
  window.addEventListener("beforeunload", (event) => {
    if (batch.busy) event.preventDefault();
  });
}
