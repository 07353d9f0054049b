// Tags as text, in the same normal form as the server's app/datasets/labels.py.

export function splitTags(text) {
  const tags = new Map();
  for (const part of text.split(/[,\n\r，、]/)) {
    const tag = part.trim().replace(/\s+/g, " ");
    if (tag && !tags.has(tag.toLowerCase())) tags.set(tag.toLowerCase(), tag);
  }
  return [...tags.values()];
}

export const joinTags = (tags) => tags.join(", ");
export const same = (a, b) => a.toLowerCase() === b.toLowerCase();
export const hasTag = (tags, tag) => tags.some((one) => same(one, tag));
export const withTags = (label, more) => joinTags(splitTags([label, ...more].join(",")));
export const withoutTag = (label, gone) => joinTags(splitTags(label).filter((tag) => !same(tag, gone)));

// Tags of the set that fit what is typed: beginnings of the tag first, then of its words, then anywhere.
export function suggest(counts, typed, present, limit = 6) {
  const wanted = typed.trim().toLowerCase();
  if (!wanted) return [];
  const rank = (tag) => {
    const text = tag.toLowerCase();
    if (text.startsWith(wanted)) return 0;
    if (text.split(/\s+/).some((word) => word.startsWith(wanted))) return 1;
    return text.includes(wanted) ? 2 : 3;
  };
  return counts
    .filter(({ tag }) => rank(tag) < 3 && !hasTag(present, tag) && !same(tag, wanted))
    .sort((a, b) => rank(a.tag) - rank(b.tag) || b.count - a.count || a.tag.localeCompare(b.tag))
    .slice(0, limit)
    .map(({ tag }) => tag);
}
