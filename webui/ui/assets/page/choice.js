// Which pictures are chosen, by id: one by one, as a range, or all.

export class Choice extends EventTarget {
  #ids = new Set();
  #from = null; // Where a range begins: the picture that was chosen last by itself.

  get size() {
    return this.#ids.size;
  }

  get ids() {
    return [...this.#ids];
  }

  has(id) {
    return this.#ids.has(id);
  }

  toggle(id) {
    if (!this.#ids.delete(id)) this.#ids.add(id);
    this.#from = id;
    this.#tell();
  }

  /** Adds all from the one chosen last up to this one, in the order of `items`. */
  range(id, items) {
    const ends = [this.#from ?? id, id].map((end) => items.findIndex((item) => item.id === end));
    const [first, last] = ends.includes(-1) ? [Math.max(...ends), Math.max(...ends)] : ends.sort((a, b) => a - b);
    for (const item of items.slice(first, last + 1)) this.#ids.add(item.id);
    this.#tell();
  }

  all(items) {
    this.#ids = new Set(items.map((item) => item.id));
    this.#tell();
  }

  clear() {
    if (!this.#ids.size) return;
    this.#ids.clear();
    this.#from = null;
    this.#tell();
  }

  /** Forgets those that are not there any more. */
  keep(items) {
    if (!this.#ids.size) return;
    const there = new Set(items.map((item) => item.id));
    const gone = this.ids.filter((id) => !there.has(id));
    for (const id of gone) this.#ids.delete(id);
    if (gone.length) this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
