// Sizes and times as the pages say them elsewhere.

export function bytes(size) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${size.toFixed(at < 2 ? 0 : 1)} ${units[at]}`;
}

export const share = (part, whole) => `${Math.floor((100 * part) / whole)} %`;

export function timeLeft(seconds) {
  if (seconds < 90) return `about ${Math.max(5, 5 * Math.ceil(seconds / 5))} seconds left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} minutes left`;
  return `about ${(seconds / 3600).toFixed(1).replace(".0", "")} hours left`;
}
