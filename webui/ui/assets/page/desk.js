// The recipe on the page: one plain object with every field of a request. It knows no widgets;
// they listen. What was typed outlives a reload of the tab, and no other tab sees it.

const STORED = "easel.desk";

export class Desk extends EventTarget {
  #request;
  #past = [];

  constructor(fields) {
    super();
    this.fields = fields;
    this.defaults = Object.fromEntries(fields.map((field) => [field.name, field.default]));
    this.restored = sessionStorage.getItem(STORED) !== null;
    const stored = Object.entries(read()).filter(([name]) => name in this.defaults);
    this.#request = { ...this.defaults, ...Object.fromEntries(stored) };
  }

  /** The whole request, a copy. */
  get request() {
    return structuredClone(this.#request);
  }

  /** What is known of a field: its range, its choices (see ui/fields.py). */
  schema(name) {
    return this.fields.find((field) => field.name === name);
  }

  value(name) {
    return this.#request[name];
  }

  /**
   * Changes some fields. `from` names the widget that did it, which need not hear of it again;
   * a change without one can be taken back with `undo`.
   */
  change(values, from = null) {
    const changed = Object.entries(values).filter(([name, value]) => JSON.stringify(this.#request[name] ?? null) !== JSON.stringify(value ?? null));
    if (!changed.length) return false;
    if (!from) this.#past = [...this.#past.slice(-19), this.#request];
    this.#request = { ...this.#request, ...Object.fromEntries(changed) };
    this.#tell(changed.map(([name]) => name), from);
    return true;
  }

  /** Takes the last change back that was more than a touch of a widget. */
  undo() {
    const before = this.#past.pop();
    if (!before) return;
    const names = Object.keys({ ...before, ...this.#request });
    this.#request = before;
    this.#tell(names, null);
  }

  #tell(names, from) {
    sessionStorage.setItem(STORED, JSON.stringify(this.#request));
    this.dispatchEvent(new CustomEvent("change", { detail: { names, from } }));
  }
}

function read() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
    return stored && typeof stored === "object" && !Array.isArray(stored) ? stored : {};
  } catch {
    return {};
  }
}
