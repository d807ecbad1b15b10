// The saved pictures that were looked for, newest first, fetched page by page.

import { ask } from "./dom.js";

const FIRST = 100; // Pictures of the first page, which is waited for.
const NEXT = 500; // Of each further one, which is fetched ahead.

export class Found extends EventTarget {
  constructor() {
    super();
    this.query = {};
    this.known = false;
    this.problem = null;
    this.indexing = null;
    this.#take({ items: [], cursor: null, total: 0, folder: "", indexing: null, notice: null });
  }

  /** Whether all that was looked for is here. */
  get whole() {
    return this.cursor === null;
  }

  /** Looks for something else. What was found before stays until the answer comes. */
  async search(query) {
    this.query = query;
    const page = await this.#begin();
    if (!page) return;
    this.#take(page);
    this.#tell({ fresh: true });
  }

  /** Looks for the same again and takes over what is new or gone, keeping what is further down. */
  async refresh() {
    if (!this.known) return this.search(this.query);
    const page = await this.#begin();
    if (!page) return;
    // While files are still being read, new pictures may belong anywhere: what is seen stays put.
    if (page.indexing && this.items.length > page.items.length) this.#take({ ...page, items: this.items, cursor: this.cursor });
    else this.#take(this.indexing ? page : this.#joined(page));
    this.#tell();
  }

  /** The page with what is known further down, where the two fit together; else the page alone. */
  #joined(page) {
    const last = page.items.at(-1);
    if (page.cursor === null || !page.items.some((item) => this.#ids.has(item.id))) return page;
    const further = this.items.filter((item) => isOlder(item, last));
    if (!further.length) return page;
    const items = [...page.items, ...further];
    const agree = this.whole ? items.length === page.total : items.length < page.total;
    return agree ? { ...page, items, cursor: this.cursor } : page;
  }

  /** Fetches the next page, once however often it is called meanwhile. */
  more() {
    if (this.whole) return Promise.resolve();
    this.#fetching ??= this.#next();
    return this.#fetching;
  }

  /** Fetches all pages there are. */
  async all() {
    const signal = this.#abort.signal;
    while (!this.whole && !this.problem && !signal.aborted) await this.more();
    return this.items;
  }

  remove(ids) {
    const gone = new Set(ids);
    const items = this.items.filter((item) => !gone.has(item.id));
    this.total -= this.items.length - items.length;
    this.#set(items);
    this.#tell();
  }

  /** Puts pictures back where their time of making has its place. */
  putBack(items) {
    const missing = items.filter((item) => !this.#ids.has(item.id));
    this.total += missing.length;
    this.#set([...this.items, ...missing].sort((a, b) => (isOlder(a, b) ? 1 : -1)));
    this.#tell();
  }

  #ids = new Set();
  #abort = new AbortController();
  #fetching = null;

  /** The first page, or null when another search has begun meanwhile or it failed. */
  async #begin() {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#fetching = null;
    return this.#ask(this.#abort.signal, { limit: FIRST });
  }

  async #next() {
    const signal = this.#abort.signal;
    const page = await this.#ask(signal, { cursor: this.cursor, limit: NEXT });
    if (signal.aborted) return;
    // Whoever hears of this page may ask for the next one at once.
    this.#fetching = null;
    if (!page) return;
    this.#take({ ...page, items: [...this.items, ...page.items.filter((item) => !this.#ids.has(item.id))] });
    this.#tell();
  }

  async #ask(signal, more) {
    const asked = Object.entries({ ...this.query, ...more }).filter(([, value]) => value !== "" && value !== null);
    try {
      const page = await ask(`history?${new URLSearchParams(asked)}`, { signal });
      this.problem = null;
      return page;
    } catch (error) {
      if (error.name === "AbortError") return null;
      this.problem = error;
      this.#tell();
      return null;
    }
  }

  #take({ items, ...rest }) {
    this.known ||= Boolean(rest.folder);
    Object.assign(this, rest);
    this.#set(items);
  }

  #set(items) {
    this.items = items;
    this.#ids = new Set(items.map((item) => item.id));
  }

  #tell(detail = {}) {
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }
}

function isOlder(item, other) {
  return item.made < other.made || (item.made === other.made && item.id < other.id);
}
