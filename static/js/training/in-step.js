// Sample clips play side by side in step: one clock says where each of them is, so that epochs can be compared.
// Only those that can be seen play, without sound. Who asked the system for less motion sees stills until Play.

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const TICK = 250;
const LATE = 0.12; // seconds that a clip may be away from the clock before it is moved

export function inStep(box, button) {
  const seen = new Set();
  const watch = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      if (isIntersecting) seen.add(target);
      else {
        seen.delete(target);
        target.pause();
      }
    }
    tick();
  });
  let began = performance.now();
  let stopped = STILL.matches;
  let held = false; // while one clip is looked at alone

  // What the server has drawn anew comes in, what is gone goes.
  function look() {
    const clips = new Set(box.querySelectorAll("video"));
    for (const clip of seen) if (!clips.has(clip)) seen.delete(clip);
    for (const clip of clips) watch.observe(clip);
    button.hidden = !clips.size;
    name();
  }

  function name() {
    const running = !stopped;
    button.querySelector("[data-word]").textContent = running ? "Pause" : "Play";
    button.querySelector("[data-when=running]").toggleAttribute("hidden", !running);
    button.querySelector("[data-when=stopped]").toggleAttribute("hidden", running);
  }

  const runs = () => !stopped && !held && !document.hidden;

  function tick() {
    const now = (performance.now() - began) / 1000;
    for (const clip of seen) {
      if (!runs()) clip.pause();
      else if (clip.preload !== "auto") clip.preload = "auto";
      if (!runs() || !clip.duration) continue;
      const wanted = now % clip.duration;
      const off = Math.abs(clip.currentTime - wanted);
      if (Math.min(off, clip.duration - off) > LATE) clip.currentTime = wanted;
      if (clip.paused) clip.play().catch(() => {});
    }
  }

  box.addEventListener("loadedmetadata", tick, true);

  button.addEventListener("click", () => {
    stopped = !stopped;
    if (!stopped) began = performance.now() - timeOfFirst() * 1000;
    name();
    tick();
  });
  const timeOfFirst = () => [...seen][0]?.currentTime ?? 0;

  STILL.addEventListener("change", () => {
    stopped = STILL.matches;
    name();
    tick();
  });
  document.addEventListener("visibilitychange", tick);
  setInterval(tick, TICK);
  look();
  return {
    look,
    hold(on) {
      held = on;
      tick();
    },
  };
}
