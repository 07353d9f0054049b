// Painting a mask over a picture: brush, eraser, undo, invert, clear, and a rectangle by numbers.
// The mask is white where the picture is drawn anew, black elsewhere; on the screen it is a veil.

const UNDO = 20;
const SIDE = 1024; // pixels of the longer side: a mask needs no more

let dialog;
let canvas;
let paint;
let history = [];
let finish;

const part = (name) => dialog.querySelector(`[data-mask-${name}]`);
const tell = (words) => {
  part("told").textContent = words;
};

/** Let a person paint; gives a PNG, or null when the dialog was closed without saving. */
export async function editMask(picture, old) {
  build();
  await Promise.allSettled([picture.decode(), old?.decode()]);
  const factor = Math.min(1, SIDE / Math.max(picture.naturalWidth, picture.naturalHeight));
  canvas.width = Math.max(1, Math.round(picture.naturalWidth * factor));
  canvas.height = Math.max(1, Math.round(picture.naturalHeight * factor));
  part("under").src = picture.src;
  history = [];
  tell("");
  if (old?.complete && old.naturalWidth) load(old);
  dialog.showModal();
  fit();
  return new Promise((resolve) => {
    finish = resolve;
  });
}

// Picture and canvas lie on each other, as large as the room allows.
function fit() {
  if (!dialog?.open) return;
  const stage = canvas.parentElement.clientWidth;
  const high = Math.min(innerHeight * 0.5, 560);
  const width = Math.min(stage, (high * canvas.width) / canvas.height);
  for (const shown of [canvas, part("under")]) {
    shown.style.width = `${width}px`;
    shown.style.height = `${(width * canvas.height) / canvas.width}px`;
  }
}

function build() {
  if (dialog) return;
  dialog = document.getElementById("mask-dialog");
  canvas = part("canvas");
  paint = canvas.getContext("2d", { willReadFrequently: true });
  dialog.addEventListener("close", () => finish?.(null));
  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", stroke);
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, end);
  part("undo").addEventListener("click", undo);
  part("invert").addEventListener("click", invert);
  part("clear").addEventListener("click", clear);
  part("rectangle").addEventListener("click", rectangle);
  part("save").addEventListener("click", saveMask);
  addEventListener("resize", fit);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  });
}

// The veil is opaque white in the canvas; CSS makes it see-through.
function load(image) {
  paint.drawImage(image, 0, 0, canvas.width, canvas.height);
  const data = paint.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.data.length; at += 4) {
    const bright = data.data[at] > 127;
    data.data.fill(255, at, at + 3);
    data.data[at + 3] = bright ? 255 : 0;
  }
  paint.putImageData(data, 0, 0);
}

function keepForUndo() {
  history.push(paint.getImageData(0, 0, canvas.width, canvas.height));
  if (history.length > UNDO) history.shift();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * canvas.width) / box.width,
    ((event.clientY - box.top) * canvas.height) / box.height,
  ];
}

let last = null;

function begin(event) {
  if (event.button > 0) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  keepForUndo();
  last = place(event);
  line(last, last);
}

function stroke(event) {
  if (!last) return;
  const next = place(event);
  line(last, next);
  last = next;
}

function end() {
  last = null;
}

function line(from, to) {
  const erase = dialog.querySelector("input[name=mask-tool]:checked").value === "eraser";
  paint.globalCompositeOperation = erase ? "destination-out" : "source-over";
  paint.strokeStyle = "#fff";
  paint.lineCap = paint.lineJoin = "round";
  paint.lineWidth = (Number(part("size").value) / 100) * canvas.width;
  paint.beginPath();
  paint.moveTo(...from);
  paint.lineTo(...to);
  paint.stroke();
  paint.globalCompositeOperation = "source-over";
}

function undo() {
  const before = history.pop();
  if (before) paint.putImageData(before, 0, 0);
  tell(before ? "" : "There is nothing to undo.");
}

function clear() {
  keepForUndo();
  paint.clearRect(0, 0, canvas.width, canvas.height);
  tell("The mask is empty.");
}

function invert() {
  keepForUndo();
  paint.globalCompositeOperation = "xor";
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, canvas.width, canvas.height);
  paint.globalCompositeOperation = "source-over";
  tell(`${share()} % of the picture is drawn anew.`);
}

function rectangle() {
  const value = (name) => (Number(dialog.querySelector(`[data-mask-box=${name}]`).value) || 0) / 100;
  keepForUndo();
  paint.fillStyle = "#fff";
  paint.fillRect(
    value("left") * canvas.width,
    value("top") * canvas.height,
    value("width") * canvas.width,
    value("height") * canvas.height,
  );
  tell(`${share()} % of the picture is drawn anew.`);
}

function share() {
  const { data } = paint.getImageData(0, 0, canvas.width, canvas.height);
  let painted = 0;
  for (let at = 3; at < data.length; at += 4) painted += data[at] > 127;
  return Math.round((painted * 400) / data.length);
}

function saveMask() {
  const { data } = paint.getImageData(0, 0, canvas.width, canvas.height);
  if (!data.some((value, at) => at % 4 === 3 && value > 127)) {
    tell("Paint over what should be drawn anew first.");
    return;
  }
  const flat = document.createElement("canvas");
  flat.width = canvas.width;
  flat.height = canvas.height;
  const out = flat.getContext("2d");
  out.fillStyle = "#000";
  out.fillRect(0, 0, flat.width, flat.height);
  out.drawImage(canvas, 0, 0);
  const done = finish;
  finish = null;
  dialog.close();
  flat.toBlob(done, "image/png");
}
