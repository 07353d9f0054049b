// Sending, and what comes back: what went wrong stands above the button, what is new stands in sight.

import { live, theForm } from "./dom.js";

const problem = () => document.getElementById("generate-error");

export function initQueue() {
  const own = (event) => event.detail.ctx?.sourceElement === theForm();
  document.addEventListener("htmx:after:request", (event) => {
    if (!own(event) || event.detail.ctx.response.status >= 400) return;
    problem().replaceChildren();
    document.querySelector("[data-empty]")?.remove();
    live("Waiting to be drawn");
    if (matchMedia("(max-width: 960px)").matches) document.getElementById("queue").scrollIntoView({ block: "start" });
  });
  document.addEventListener("htmx:error", (event) => {
    if (!own(event)) return;
    problem().innerHTML = '<div class="notice bad">There is no connection. Nothing was sent; try again.</div>';
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const card = event.target.closest?.(".feed-job");
    const things = card?.querySelector(".of-clips") ? "clips" : "pictures";
    const words = { succeeded: `Your ${things} are finished`, failed: `The ${things} could not be drawn` }[card?.dataset.state];
    if (words) live(words);
  });
}
