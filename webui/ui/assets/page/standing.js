// What this browser may reach (see webui/standing.py), and the filter level this tab asks for.
// The engine decides for every job anew: nothing here opens anything.

import { ask } from "./dom.js";

const STORED = "easel.level";
const LONGEST = 2 ** 31 - 1; // Milliseconds a browser can wait.

/** The levels in order, by the keys of their words. */
export const LEVELS = [
  { name: "filter.strict", about: "filter.strict.about" },
  { name: "filter.mild", about: "filter.mild.about" },
  { name: "filter.art", about: "filter.art.about" },
];

export class Standing extends EventTarget {
  #asking = 0;
  #wish = stored();
  #timer = 0;

  constructor() {
    super();
    this.seen = null;
    this.refresh();
  }

  /** The level to ask for. It is this tab's own, and belongs to no request. */
  get level() {
    return Math.min(this.#wish, this.seen?.level ?? this.#wish);
  }

  /** Seconds until the grant ends. */
  get secondsLeft() {
    return this.seen?.grant ? Math.max(0, this.seen.grant.seconds_left - (Date.now() - this.at) / 1000) : 0;
  }

  /** The level's standing: what holds it, which guards it misses. */
  of(level) {
    return this.seen?.levels.find((each) => each.level === level) ?? { level, held_by: level ? ["other"] : [], missing: [] };
  }

  /** Asks for a level that can be reached. */
  choose(level) {
    if (level > (this.seen?.level ?? 0)) return;
    this.#keep(level);
    this.dispatchEvent(new Event("change"));
  }

  async refresh() {
    const asking = ++this.#asking;
    try {
      const seen = await ask("gate");
      if (asking === this.#asking) this.#take(seen);
    } catch {
      // The line about the engine tells of a server that does not answer; what was seen last stays.
      if (asking === this.#asking) this.dispatchEvent(new Event("change"));
    }
  }

  /** Puts something to the gate whose answer is a standing. Throws the `Problem` it answers with. */
  async put(path, json) {
    const seen = await ask(`gate/${path}`, { method: "POST", json });
    this.#asking += 1;
    this.#take(seen);
  }

  #take(seen) {
    const before = this.#wish;
    this.seen = seen;
    this.at = Date.now();
    clearTimeout(this.#timer);
    if (seen.grant) this.#timer = setTimeout(() => this.refresh(), Math.min(1000 * seen.grant.seconds_left + 500, LONGEST));
    if (before > seen.level) this.#keep(seen.level);
    this.dispatchEvent(new Event("change"));
    if (before > seen.level) this.dispatchEvent(new CustomEvent("fell", { detail: this.of(before) }));
  }

  #keep(level) {
    this.#wish = level;
    sessionStorage.setItem(STORED, level);
  }
}

function stored() {
  const level = Number(sessionStorage.getItem(STORED));
  return level in LEVELS ? level : 0;
}
