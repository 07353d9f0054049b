// What the editor knows: pictures, what is chosen and shown, and how each change is taken back.
// Changes show at once and go to the server in order; a refused one is undone on the screen, with words.

import { call } from "./api.js";
import { count } from "./dom.js";
import { splitTags, withTags, withoutTag } from "./tags.js";

const UNDO_STEPS = 50;

export class Store extends EventTarget {
  constructor(state) {
    super();
    this.dataset = state.dataset;
    this.url = `/api/v1/datasets/${state.dataset.id}`;
    this.noun = state.dataset.media === "video" ? "clip" : "picture";
    this.trigger = state.trigger;
    this.resolution = state.resolution;
    this.cut = state.cut; // how the training will cut clips; null where that is open
    this.families = state.families; // those that train on clips
    this.items = state.items;
    this.selected = new Set();
    this.current = null;
    this.filter = null; // null, or {kind: "tag" | "untagged" | "warning", value}
    this.undoStack = [];
    this.queue = Promise.resolve();
  }

  get isCaption() {
    return this.dataset.label_type === "caption";
  }

  changed(what = "items") {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  failed(error) {
    this.dispatchEvent(new CustomEvent("problem", { detail: error }));
  }

  find(id) {
    return this.items.find((item) => item.id === id);
  }

  tagsOf(item) {
    return this.isCaption ? [] : splitTags(item.label);
  }

  tagCounts() {
    const counts = new Map();
    for (const item of this.items) {
      for (const tag of this.tagsOf(item)) counts.set(tag, (counts.get(tag) || 0) + 1);
    }
    return [...counts]
      .map(([tag, count]) => ({ tag, count }))
      .sort((a, b) => b.count - a.count || a.tag.localeCompare(b.tag));
  }

  warningsOf(item) {
    const found = new Set(item.warnings);
    if (this.resolution) {
      // What is small depends on the base: it draws at its own size.
      found.delete("small");
      found.delete("enlarged");
      if (item.width * item.height < (this.resolution * this.resolution) / 2) found.add("enlarged");
    } else {
      found.delete("small");
    }
    const rate = this.cut && this.families.find(({ name }) => name === this.cut.family)?.fps;
    if (rate) {
      // What looks jerky depends on it, too.
      found.delete("low-rate");
      if (item.fps && item.fps < 0.95 * rate) found.add("low-rate");
    }
    return found;
  }

  shown() {
    const { filter } = this;
    if (!filter) return this.items;
    if (filter.kind === "untagged") return this.items.filter((item) => !item.label);
    if (filter.kind === "warning") return this.items.filter((item) => this.warningsOf(item).has(filter.value));
    return this.items.filter((item) => this.tagsOf(item).includes(filter.value));
  }

  show(filter) {
    const was = this.filter;
    this.filter = filter && was && was.kind === filter.kind && was.value === filter.value ? null : filter;
    this.changed("filter");
  }

  choose(id, { keep = false } = {}) {
    if (!keep) this.selected = new Set(id ? [id] : []);
    this.current = id;
    this.changed("choice");
  }

  toggle(id) {
    if (this.selected.has(id) && this.selected.size > 1) this.selected.delete(id);
    else this.selected.add(id);
    this.current = id;
    this.changed("choice");
  }

  chooseUpTo(id) {
    const shown = this.shown().map((item) => item.id);
    const [from, to] = [shown.indexOf(this.current), shown.indexOf(id)].sort((a, b) => a - b);
    for (const one of shown.slice(Math.max(0, from), to + 1)) this.selected.add(one);
    this.current = id;
    this.changed("choice");
  }

  chooseAll() {
    this.selected = new Set(this.shown().map((item) => item.id));
    this.current ??= this.shown()[0]?.id ?? null;
    this.changed("choice");
  }

  step(by) {
    const shown = this.shown();
    if (!shown.length) return;
    const at = shown.findIndex((item) => item.id === this.current);
    const next = at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by));
    this.choose(shown[next].id);
  }

  // The next picture without a label after this one, going round; null when there is none.
  nextUntagged() {
    const at = this.items.findIndex((item) => item.id === this.current);
    const order = [...this.items.slice(at + 1), ...this.items.slice(0, Math.max(0, at))];
    return order.find((item) => !item.label) ?? null;
  }

  add(items) {
    const known = new Set(this.items.map((item) => item.id));
    for (const item of items) {
      if (known.has(item.id)) Object.assign(this.find(item.id), item);
      else this.items.push(item);
    }
    this.changed();
  }

  async reload() {
    const items = [];
    let cursor = "";
    do {
      const page = await call("GET", `${this.url}/items?limit=500${cursor ? `&cursor=${cursor}` : ""}`);
      items.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor);
    this.items = items;
    if (!this.find(this.current)) this.current = null;
    this.selected = new Set([...this.selected].filter((id) => this.find(id)));
    this.changed();
  }

  // One after the other, so that the server sees changes in the order in which they were made.
  send(work) {
    this.pending = (this.pending ?? 0) + 1;
    const done = this.queue.then(work).finally(() => {
      this.pending -= 1;
      this.changed("saved");
    });
    this.queue = done.catch(() => {});
    return done;
  }

  remember(words, undo) {
    this.undoStack.push({ words, undo });
    if (this.undoStack.length > UNDO_STEPS) this.undoStack.shift();
    this.changed("undo");
  }

  // Tags or captions: the server brings each label to the new form.
  async changeLabels() {
    await this.queue;
    await call("PATCH", this.url, { label_type: this.isCaption ? "tag" : "caption" });
    location.reload();
  }

  async undo() {
    const step = this.undoStack.pop();
    if (!step) return null;
    this.changed("undo");
    await step.undo();
    return step.words;
  }

  async setLabel(item, label, { undoable = true } = {}) {
    const before = item.label;
    if (label === before) return;
    item.label = label;
    if (undoable) this.remember(`the label of ${item.name}`, () => this.setLabel(item, before, { undoable: false }));
    this.changed();
    try {
      const saved = await this.send(() => call("PATCH", `${this.url}/items/${item.id}`, { label }, { "If-Match": item.etag }));
      item.etag = saved.etag;
      if (item.label === label) Object.assign(item, saved);
    } catch (error) {
      if (item.label === label) item.label = before;
      if (error.status === 412) await this.reload().catch(() => {});
      this.failed(error);
    }
    this.changed();
  }

  addTags(items, tags) {
    if (items.length === 1) return this.setLabel(items[0], withTags(items[0].label, tags));
    return this.bulk({ op: "add", tag: tags.join(", "), items: items.map((item) => item.id) }, `“${tags.join(", ")}” added to`);
  }

  removeTag(items, tag) {
    if (items.length === 1) return this.setLabel(items[0], withoutTag(items[0].label, tag));
    return this.bulk({ op: "remove", tag, items: items.map((item) => item.id) }, `“${tag}” removed from`);
  }

  removeEverywhere(tag) {
    return this.bulk({ op: "remove", tag }, `“${tag}” removed from`);
  }

  rename(tag, to) {
    return this.bulk({ op: "rename", tag, to }, `“${tag}” is now “${to}” in`);
  }

  async bulk(change, words) {
    try {
      const done = await this.send(() => call("POST", `${this.url}/labels`, change));
      await this.reload();
      const said = `${words} ${count(done.changed, this.noun)}.`;
      if (done.changed) {
        this.remember(said, async () => {
          try {
            await this.send(() => call("POST", `${this.url}/labels/undo`, { undo: done.undo }));
            await this.reload();
          } catch (error) {
            this.failed(error);
          }
        });
      }
      this.dispatchEvent(new CustomEvent("done", { detail: said }));
    } catch (error) {
      this.failed(error);
    }
  }

  async removeItems(ids) {
    for (const id of ids) {
      try {
        await this.send(() => call("DELETE", `${this.url}/items/${id}`));
        const at = this.items.findIndex((item) => item.id === id);
        if (at < 0) continue;
        this.items.splice(at, 1);
        this.selected.delete(id);
        if (this.current === id) this.choose(this.items[Math.min(at, this.items.length - 1)]?.id ?? null);
      } catch (error) {
        this.failed(error);
      }
    }
    await this.reload().catch((error) => this.failed(error));
  }
}
