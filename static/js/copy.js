// Copying works on plain http beyond localhost too, where navigator.clipboard does not exist.

export async function copyText(text, near) {
  const done = (await viaClipboard(text)) || viaSelection(text);
  announce(done ? "Copied" : "Select the text and copy it by hand", near);
}

async function viaClipboard(text) {
  if (!navigator.clipboard) return false;
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function viaSelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

export function announce(words) {
  document.querySelector(".toast")?.remove();
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.textContent = words;
  document.body.append(toast);
  const live = document.getElementById("live");
  if (live) live.textContent = words;
  setTimeout(() => toast.remove(), 2200);
}
