// The job page while it runs: events tell when something changed, the server writes all words.
// EventSource comes back by itself with Last-Event-ID; after two failures the page polls instead.

import htmx from "htmx.org";
import { openLightbox } from "./lightbox.js";
import { drawLoss } from "./loss-chart.js";
import { inStep } from "./training/in-step.js";

const page = document.querySelector("[data-job]");
const id = page.dataset.job;
const OVER = ["succeeded", "failed", "canceled", "expired"];
const wanted = new Set();
const clips = inStep(document.getElementById("samples"), page.querySelector("[data-play-all]"));
let busy = false;
let said = -1;

async function refresh(parts) {
  for (const part of parts) wanted.add(part);
  if (busy) return;
  busy = true;
  while (wanted.size) {
    const [part] = wanted;
    wanted.delete(part);
    await load(part);
  }
  setTimeout(() => {
    busy = false;
    if (wanted.size) refresh([]);
  }, 700);
}

async function load(part) {
  try {
    const answer = await fetch(`/trainings/${id}?part=${part}`, { headers: { "HX-Request": "true" } });
    if (!answer.ok) return;
    // Morphed, not replaced: a button under the pointer or with the focus stays the same button.
    await htmx.swap({ target: document.getElementById(part), text: await answer.text(), swap: "innerMorph" });
    if (part === "status") speak();
    if (part === "samples") clips.look();
  } catch {
    // The next event or tick asks again.
  }
}

// Screen readers hear phase changes and each tenth, not every step; the tab's title shows the percentage.
function speak() {
  const head = document.querySelector(".job-head");
  const percent = Number(head.dataset.percent);
  const words = head.querySelector("h1").textContent;
  document.title = `${percent > 0 && percent < 100 ? `${percent} % · ` : ""}${words} · Bottega`;
  if (Math.floor(percent / 10) !== said) {
    said = Math.floor(percent / 10);
    document.getElementById("live").textContent = words;
  }
  if (OVER.includes(head.dataset.status)) finish();
}

// The results have other parts than the running job. Whoever compares samples finishes that first.
function finish() {
  const open = document.querySelector("dialog[open]");
  if (open) open.addEventListener("close", () => location.reload(), { once: true });
  else location.reload();
}

function listen() {
  let failures = 0;
  let metricsDue = 0;
  const events = new EventSource(`/api/v1/jobs/${id}/events`);
  const on = (kind, act) => events.addEventListener(kind, act);
  const parts = { progress: ["status"], status: ["status", "log"], log: ["log"], sample: ["samples"], checkpoint: ["samples", "log"] };
  for (const [kind, list] of Object.entries(parts)) {
    on(kind, () => {
      failures = 0;
      refresh(list);
    });
  }
  on("progress", () => {
    if (Date.now() < metricsDue) return;
    metricsDue = Date.now() + 3000;
    drawLoss();
  });
  on("done", () => {
    events.close();
    finish();
  });
  events.addEventListener("error", () => {
    failures += 1;
    if (failures < 2) return;
    events.close();
    setInterval(() => refresh(["status", "samples", "log"]), 5000);
  });
}

page.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell[data-src]");
  if (cell) openLightbox(page.querySelector("[data-lightbox]"), cell, clips.hold);
});

// The word about what was asked for is said once, not at each reload.
if (location.search) history.replaceState(null, "", location.pathname);
drawLoss();
if (page.dataset.terminal !== "true") listen();
