// The model's form: pictures go up as soon as they are chosen, and what is known of each is shown at once.

import { h, iconsOf, say } from "./datasets/dom.js";
import { showFocus, takeDrops } from "./upload/drop.js";
import { patiently, request } from "./upload/requests.js";

const PARALLEL = 2;
const MOST = 20;
const form = document.querySelector("[data-model-form]");
if (form) covers(form);

function covers(root) {
  const one = (name) => root.querySelector(`[data-${name}]`);
  const input = one("cover-files");
  const list = one("cover-list");
  const busy = one("cover-busy");
  const icon = iconsOf(root);
  const waiting = [];
  const refused = [];
  let running = 0;

  function add(files) {
    const room = MOST - list.children.length;
    refused.length = 0;
    if (files.length > room) refused.push(`A version shows at most ${MOST} pictures; the last ${files.length - room} were left out.`);
    for (const file of files.slice(0, room)) {
      const address = URL.createObjectURL(file);
      const item = h("li", { class: "is-busy" }, h(file.type.startsWith("video/") ? "video" : "img", { src: address, alt: "" }), h("p", { class: "muted small" }, "Uploading …"));
      list.append(item);
      waiting.push({ file, item, address });
    }
    show();
    while (running < PARALLEL && waiting.length) next();
  }

  async function next() {
    const work = waiting.shift();
    if (!work) return;
    running += 1;
    try {
      keep(work, await send(work.file));
    } catch (error) {
      refused.push(`${work.file.name}: ${error.message}`);
      work.item.remove();
    }
    URL.revokeObjectURL(work.address);
    running -= 1;
    show();
    next();
  }

  async function send(file) {
    const body = () => {
      const data = new FormData();
      data.append("file", file, file.name);
      return data;
    };
    return (await patiently(() => request("POST", "/api/v1/images", body()), () => {})).body;
  }

  function keep({ item, file }, image) {
    item.classList.remove("is-busy");
    item.dataset.image = image.id;
    item.replaceChildren(
      h("img", { src: `/images/${image.id}/file?width=450`, alt: image.meta?.prompt?.slice(0, 160) ?? file.name }),
      h("input", { type: "hidden", name: "images", value: image.id }),
      h("p", { class: "small" }, told(image)),
    );
    buttons(item);
  }

  // What was read out of the picture, in a line.
  function told(image) {
    const meta = image.meta ?? {};
    if (!meta.prompt) return h("span", { class: "muted" }, "No generation data inside");
    const facts = [meta.sampler, meta.steps && `${meta.steps} steps`, meta.seed !== undefined && `seed ${meta.seed}`].filter(Boolean);
    const resources = (image.resources ?? []).map((one) => (one.model_version_id ? one.name : `${one.name} (not on this server)`));
    return [
      h("span", { class: "cover-prompt" }, meta.prompt),
      h("span", { class: "muted" }, facts.join(" · ")),
      resources.length > 0 && h("span", { class: "muted" }, `with ${resources.join(", ")}`),
    ];
  }

  function buttons(item) {
    const move = (step) => () => {
      const other = step < 0 ? item.previousElementSibling : item.nextElementSibling;
      if (!other) return;
      step < 0 ? other.before(item) : other.after(item);
      say(`Picture ${[...list.children].indexOf(item) + 1} of ${list.children.length}`);
    };
    item.append(
      h("div", { class: "row cover-buttons" },
        h("button", { type: "button", class: "btn small icon-only", "aria-label": "Move forward", onclick: move(-1) }, icon("chevron-left")),
        h("button", { type: "button", class: "btn small icon-only", "aria-label": "Move back", onclick: move(1) }, icon("chevron-right")),
        h("button", { type: "button", class: "btn small icon-only", "aria-label": "Remove this picture", onclick: () => remove(item) }, icon("x"))),
    );
  }

  function remove(item) {
    request("DELETE", `/api/v1/images/${item.dataset.image}`).catch(() => {});
    item.remove();
    say("Picture removed");
    input.focus();
  }

  function show() {
    const left = running + waiting.length;
    busy.hidden = !left;
    busy.textContent = left ? `${left} picture${left === 1 ? " is" : "s are"} still on the way` : "";
    root.querySelector(".sticky-action button").disabled = left > 0;
    const problem = one("cover-problem");
    problem.hidden = !refused.length;
    problem.textContent = refused.join(" ");
  }

  const pictures = (files) => [...files].filter((file) => /^(image|video)\//.test(file.type) || /\.(avif|heic|heif|mov)$/i.test(file.name));
  const label = one("cover-button");
  label.hidden = false;
  input.hidden = false;
  showFocus(label);
  for (const item of list.children) buttons(item);
  input.addEventListener("change", () => {
    add([...input.files]);
    input.value = "";
  });
  takeDrops(one("covers"), (transfer) => add(pictures(transfer.files)));
}
