// Bytes a second over the last seconds, so that a pause shows soon and a burst does not mislead.

const WINDOW = 8000;

export class Pace {
  constructor() {
    this.marks = [];
  }

  // Notes that `bytes` are there now; the rate, or null as long as it would be a guess.
  at(bytes, now = performance.now()) {
    this.marks.push({ now, bytes });
    while (this.marks.length > 2 && now - this.marks[0].now > WINDOW) this.marks.shift();
    const [first] = this.marks;
    const seconds = (now - first.now) / 1000;
    return seconds < 0.5 || bytes <= first.bytes ? null : (bytes - first.bytes) / seconds;
  }
}
