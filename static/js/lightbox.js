// Compare samples: ← → moves between prompts, ↑ ↓ between epochs, so that only one thing changes at a time.
// A clip goes on where the one before it was.

const STILL = matchMedia("(prefers-reduced-motion: reduce)");

let dialog;
let cells = [];
let current;
let onOpen = () => {};

// `hold` is told true while the dialog is open.
export function openLightbox(grid, cell, hold = () => {}) {
  cells = [...grid.querySelectorAll(".cell[data-src]")];
  onOpen = hold;
  dialog ??= build();
  show(cell);
  dialog.showModal();
  onOpen(true);
}

function build() {
  const made = document.createElement("dialog");
  made.className = "lightbox";
  made.setAttribute("aria-label", "Sample");
  made.innerHTML = `<div data-stage></div><p></p>
    <div class="row"><button class="btn" data-move="left" aria-label="Prompt before">←</button>
    <button class="btn" data-move="right" aria-label="Next prompt">→</button>
    <button class="btn" data-move="up" aria-label="Newer epoch">↑</button>
    <button class="btn" data-move="down" aria-label="Older epoch">↓</button>
    <button class="btn" data-close>Close</button></div>
    <p class="visually-hidden" aria-live="polite" data-spoken></p>`;
  made.addEventListener("click", (event) => {
    const move = event.target.closest("[data-move]");
    if (move) step(move.dataset.move);
    if (event.target === made) made.close();
  });
  made.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" }[event.key];
    if (!move) return;
    event.preventDefault();
    step(move);
  });
  // Back to the picture that was looked at last, not to the one that was opened first.
  made.addEventListener("close", () => {
    made.querySelector("video")?.pause();
    onOpen(false);
    if (current.isConnected) current.focus();
  });
  swipe(made);
  document.body.append(made);
  return made;
}

function swipe(target) {
  let x;
  let y;
  target.addEventListener("touchstart", (event) => ({ clientX: x, clientY: y } = event.touches[0]), { passive: true });
  target.addEventListener("touchend", (event) => {
    const dx = event.changedTouches[0].clientX - x;
    const dy = event.changedTouches[0].clientY - y;
    if (Math.max(Math.abs(dx), Math.abs(dy)) < 40) return;
    step(Math.abs(dx) > Math.abs(dy) ? (dx < 0 ? "right" : "left") : dy < 0 ? "down" : "up");
  });
}

function show(cell) {
  current = cell;
  const stage = dialog.querySelector("[data-stage]");
  stage.replaceChildren(cell.dataset.poster ? clipOf(cell, stage.querySelector("video")) : pictureOf(cell));
  dialog.querySelector("p").textContent = cell.dataset.words;
  dialog.querySelector("[data-spoken]").textContent = cell.dataset.words;
}

function pictureOf(cell) {
  return Object.assign(document.createElement("img"), { src: cell.dataset.src, alt: cell.dataset.words });
}

function clipOf(cell, before) {
  const { src, poster, words } = cell.dataset;
  const video = Object.assign(document.createElement("video"), { src, poster, muted: true, loop: true, controls: true, playsInline: true });
  video.setAttribute("aria-label", words);
  video.autoplay = before ? !before.paused : !STILL.matches;
  if (before) video.currentTime = before.currentTime;
  return video;
}

function step(move) {
  const sameLine = (cell) =>
    move === "left" || move === "right"
      ? cell.dataset.row === current.dataset.row
      : cell.dataset.column === current.dataset.column;
  const line = cells.filter(sameLine);
  const at = line.indexOf(current) + (move === "left" || move === "up" ? -1 : 1);
  if (line[at]) show(line[at]);
}
