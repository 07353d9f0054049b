// Requests that tell how much has gone out, and that are tried again when the line breaks.

import { read, Refusal } from "../datasets/api.js";

const LONGEST_WAIT = 30_000;

export const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

// Until the browser believes that there is a network again; not for ever, because it may be wrong.
function online(signal) {
  if (navigator.onLine) return Promise.resolve();
  return Promise.race([new Promise((resolve) => addEventListener("online", resolve, { once: true })), pause(LONGEST_WAIT, signal)]);
}

// fetch() cannot tell how much of a body has gone out; XMLHttpRequest can.
export function request(method, url, body, { type, key, progress, signal } = {}) {
  return new Promise((resolve, reject) => {
    const stopped = () => reject(new DOMException("stopped", "AbortError"));
    if (signal?.aborted) return stopped();
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    xhr.open(method, url);
    if (type) xhr.setRequestHeader("Content-Type", type);
    if (key) xhr.setRequestHeader("Idempotency-Key", key);
    xhr.upload.onprogress = (event) => event.lengthComputable && progress?.(event.loaded, event.total);
    xhr.onerror = () => reject(new Refusal(0, { detail: "The connection broke." }));
    xhr.onabort = stopped;
    xhr.onload = () => {
      try {
        resolve({ status: xhr.status, body: read(xhr.status, xhr.responseText) });
      } catch (error) {
        reject(error);
      }
    };
    xhr.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort, { once: true });
    xhr.send(body);
  });
}

// What may be gone in a moment: a broken line, a server that starts again, too many requests.
const passing = (error) => error instanceof Refusal && (error.status === 0 || error.status === 429 || (error.status >= 502 && error.status !== 507));

export async function patiently(work, onWait, signal, tries = 4) {
  for (let tried = 1; ; tried++) {
    try {
      return await work();
    } catch (error) {
      if (signal?.aborted) throw new DOMException("stopped", "AbortError");
      if (!passing(error) || tried >= tries) throw error;
      onWait(error.status === 429 ? "waiting a moment" : navigator.onLine ? "trying again" : "waiting for the connection");
      await online(signal);
      await pause(Math.max(error.retryAfter * 1000 || 0, Math.min(LONGEST_WAIT, 1000 * 2 ** (tried - 1))), signal);
    }
  }
}
