// Clips play without sound where somebody looks at them: `<a data-clip="ADDRESS"><img …></a>`, with the mouse on it
// or the focus in it. One at a time, and none where a person asked the system for less motion.

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const PAUSE = 150;

let shown = null;
let soon;

function stop() {
  clearTimeout(soon);
  shown?.querySelector(".clip-preview")?.remove();
  shown = null;
}

function start(box) {
  if (box === shown && (!box || box.querySelector(".clip-preview"))) return;
  stop();
  if (!box || STILL.matches) return;
  shown = box;
  soon = setTimeout(() => {
    const video = document.createElement("video");
    Object.assign(video, { className: "clip-preview", src: box.dataset.clip, loop: true, muted: true, playsInline: true, tabIndex: -1 });
    video.setAttribute("aria-hidden", "true");
    video.disablePictureInPicture = true;
    box.querySelector("img")?.after(video);
    video.play().catch(() => {});
  }, PAUSE);
}

const boxOf = (target) => target.closest?.("[data-clip]") ?? null;

document.addEventListener("pointerover", (event) => event.pointerType === "mouse" && start(boxOf(event.target)));
document.documentElement.addEventListener("pointerleave", stop);
document.addEventListener("focusin", (event) => start(boxOf(event.target)));
document.addEventListener("focusout", (event) => boxOf(event.target) === shown && stop());
document.addEventListener("click", (event) => boxOf(event.target) && stop());
document.addEventListener("visibilitychange", () => document.hidden && stop());
STILL.addEventListener("change", stop);
