// One upload session: several parts on their way at once, each tried again by itself, until the server has
// put the file together. Sets of pictures and model files use it alike.

import { Refusal } from "../datasets/api.js";
import { patiently, pause, request } from "./requests.js";

const OVER = ["succeeded", "failed", "canceled", "expired"];

export class Session {
  // `onProgress(bytes that have arrived or are on their way)`, `onWait(words)`; `tries` of each request.
  constructor(file, { signal, onProgress = () => {}, onWait = () => {}, parallel = 4, tries = 4 } = {}) {
    Object.assign(this, { file, signal, onProgress, onWait, parallel, tries });
    this.sent = new Map();
    this.waiting = 0;
  }

  get url() {
    return `/api/v1/uploads/${this.upload.id}`;
  }

  ask(method, url, body, options = {}) {
    const work = () => request(method, url, body, { signal: this.signal, ...options });
    return patiently(work, this.onWait, this.signal, this.tries);
  }

  async json(method, url, body, options = {}) {
    return (await this.ask(method, url, body && JSON.stringify(body), { type: body && "application/json", ...options })).body;
  }

  // A new session, or that of `id` as the server knows it.
  async open(id = null) {
    // With a key, a second try after a lost answer opens no second session.
    const key = `upload-${Date.now()}-${Math.random().toString(36).slice(2)}`;
    this.upload = id
      ? await this.json("GET", `/api/v1/uploads/${id}`)
      : await this.json("POST", "/api/v1/uploads", { name: this.file.name, size: this.file.size }, { key });
    return this.upload;
  }

  sizeOf(number) {
    const start = (number - 1) * this.upload.part_size;
    return Math.min(this.upload.part_size, this.upload.size - start);
  }

  get arrived() {
    const missing = this.upload.missing.reduce((sum, number) => sum + this.sizeOf(number), 0);
    const sent = [...this.sent].reduce((sum, [number, bytes]) => sum + Math.min(bytes, this.sizeOf(number)), 0);
    return this.upload.size - missing + sent;
  }

  async send() {
    // A refusal of one part must end the others too, but not what else hangs on the signal.
    const own = new AbortController();
    const stop = () => own.abort();
    this.signal?.addEventListener("abort", stop, { once: true });
    const queue = [...this.upload.missing];
    const line = async () => {
      for (let number = queue.shift(); number !== undefined; number = queue.shift()) await this.part(number, own.signal);
    };
    try {
      await Promise.all(Array.from({ length: this.parallel }, line));
    } catch (error) {
      own.abort();
      throw error;
    } finally {
      this.signal?.removeEventListener("abort", stop);
    }
  }

  async part(number, signal) {
    const start = (number - 1) * this.upload.part_size;
    const progress = (bytes) => {
      this.sent.set(number, bytes);
      this.onProgress(this.arrived);
    };
    const body = this.file.slice(start, start + this.sizeOf(number));
    const work = () => request("PUT", `${this.url}/parts/${number}`, body, { type: "application/octet-stream", progress, signal });
    const failed = (words) => {
      progress(0);
      this.onWait(words);
    };
    try {
      await patiently(work, failed, signal, this.tries);
    } catch (error) {
      // Another tab has sent the rest and completed it.
      if (!(error instanceof Refusal && error.code === "upload-complete")) throw error;
    }
    progress(this.sizeOf(number));
  }

  // Has the server put it together; the job's output, which says what the file was recognised as.
  async complete(onState = () => {}) {
    const job = await this.json("POST", `${this.url}/complete`);
    return this.follow(job, onState);
  }

  async follow(job, onState, interval = 1000) {
    let current = job;
    while (!OVER.includes(current.status)) {
      onState(current);
      await pause(interval, this.signal);
      current = await this.json("GET", `/api/v1/jobs/${job.id}`);
    }
    if (current.status !== "succeeded") throw new Refusal(500, { code: current.error?.code, detail: current.error?.detail ?? "It was stopped." });
    return current.output;
  }

  forget() {
    return request("DELETE", this.url).catch(() => {});
  }
}
