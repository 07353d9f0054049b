// Clips play without sound: on their tile while the mouse or the focus is there, large in the inspector.
// One at a time, and nothing moves by itself for people who asked their system for less motion.

import { h } from "./dom.js";

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const PAUSE = 150;

export const isClip = (item) => item.media === "video";
export const lengthOf = (item) => `${item.duration.toFixed(1)} s`;

export function previews(box, find) {
  let playing = null;
  let soon;

  function stop() {
    clearTimeout(soon);
    playing?.remove();
    playing = null;
  }

  function start(tile) {
    const item = find(tile?.dataset.item);
    if (!item || !isClip(item) || STILL.matches || playing?.parentElement === tile) return;
    stop();
    soon = setTimeout(() => {
      playing = h("video", { class: "tile-preview", src: item.url, loop: true, playsinline: true, "aria-hidden": "true", tabindex: "-1" });
      playing.muted = true;
      tile.querySelector("img").after(playing);
      playing.play().catch(() => {});
    }, PAUSE);
  }

  box.addEventListener("pointerover", (event) => event.pointerType === "mouse" && start(event.target.closest("[data-item]")));
  box.addEventListener("pointerleave", stop);
  box.addEventListener("focusin", (event) => start(event.target.closest("[data-item]")));
  box.addEventListener("focusout", stop);
  document.addEventListener("visibilitychange", () => document.hidden && stop());
}

// With the browser's own controls; it has no sound to begin with.
export function player(item) {
  const video = h("video", {
    src: item.url, poster: item.thumb_url, width: item.width, height: item.height, controls: true, loop: true, playsinline: true,
    preload: "metadata", "aria-label": item.label || item.name,
  });
  video.muted = true;
  return video;
}

export function factsOf(item, noun) {
  const size = `${item.name} · ${item.width} × ${item.height}`;
  if (!isClip(item)) return noun === "clip" ? `${size} · a picture: a clip of one frame` : size;
  return `${size} · ${lengthOf(item)}, ${item.frames} frames at ${Number(item.fps.toFixed(2))} a second`;
}
