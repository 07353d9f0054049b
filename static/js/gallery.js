// Model and picture pages: pictures open large in place, arrow keys turn the pages of the gallery.

import PhotoSwipeLightbox from "photoswipe/lightbox";

for (const gallery of document.querySelectorAll("[data-lightbox]")) {
  const lightbox = new PhotoSwipeLightbox({
    gallery,
    children: "a[data-pswp-width]",
    pswpModule: () => import("photoswipe"),
    bgOpacity: 0.92,
    showHideAnimationType: matchMedia("(prefers-reduced-motion: reduce)").matches ? "none" : "fade",
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
  lightbox.init();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target.closest("input, textarea, select") || document.querySelector(".pswp--open")) return;
  document.querySelector(`a[data-key="${event.key}"]`)?.click();
});
