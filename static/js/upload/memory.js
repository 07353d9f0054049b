// Which unfinished sessions belong to which files of this computer: by name, size and the time of the last
// change. The browser cannot open a file again by itself, so it has to recognise it when it is chosen anew.

const KEY = "bottega-uploads";

function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

function save(known) {
  try {
    localStorage.setItem(KEY, JSON.stringify(known));
  } catch {
    // Without storage an upload still works; it is only not found again by itself.
  }
}

const same = (one, file) => one.name === file.name && one.size === file.size && one.changed === file.lastModified;

export function remember(id, file) {
  save({ ...load(), [id]: { name: file.name, size: file.size, changed: file.lastModified } });
}

export function forget(id) {
  const { [id]: _, ...rest } = load();
  save(rest);
}

export function sessionOf(file) {
  return Object.entries(load()).find(([, one]) => same(one, file))?.[0] ?? null;
}

// False only where this browser began that session with another state of the file.
export function mayBe(id, file) {
  const one = load()[id];
  return !one || same(one, file);
}
