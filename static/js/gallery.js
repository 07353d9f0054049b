// Model and picture pages: pictures open large in place, arrow keys turn the pages of the gallery.

import PhotoSwipeLightbox from "photoswipe/lightbox";

const STILL = matchMedia("(prefers-reduced-motion: reduce)");

// A clip plays while its page of the lightbox is looked at; by itself only where motion is welcome.
function clips(lightbox) {
  const videoOf = ({ content }) => (content.data.type === "clip" ? content.element : null);
  lightbox.on("contentLoad", (event) => {
    const { content } = event;
    if (content.data.type !== "clip") return;
    event.preventDefault();
    const video = document.createElement("video");
    Object.assign(video, { src: content.data.src, poster: content.data.msrc ?? "", controls: true, loop: true, muted: true, playsInline: true });
    video.className = "pswp-clip";
    video.setAttribute("aria-label", content.data.element?.querySelector("img")?.alt ?? "Clip");
    content.element = video;
    content.state = "loaded";
    content.onLoaded();
  });
  lightbox.on("contentActivate", (event) => !STILL.matches && videoOf(event)?.play().catch(() => {}));
  lightbox.on("contentDeactivate", (event) => videoOf(event)?.pause());
  lightbox.on("contentRemove", (event) => videoOf(event)?.pause());
}

for (const gallery of document.querySelectorAll("[data-lightbox]")) {
  const lightbox = new PhotoSwipeLightbox({
    gallery,
    children: "a[data-pswp-width]",
    pswpModule: () => import("photoswipe"),
    bgOpacity: 0.92,
    showHideAnimationType: STILL.matches ? "none" : "fade",
  });
  lightbox.on("uiRegister", () => {
    lightbox.pswp.ui.registerElement({
      name: "words",
      order: 9,
      isButton: false,
      appendTo: "root",
      onInit: (element, pswp) => {
        element.className = "pswp-words";
        pswp.on("change", () => {
          element.textContent = pswp.currSlide.data.element?.querySelector("img")?.alt ?? "";
        });
      },
    });
  });
  clips(lightbox);
  lightbox.init();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target.closest("input, textarea, select") || document.querySelector(".pswp--open")) return;
  document.querySelector(`a[data-key="${event.key}"]`)?.click();
});
