// The bar over the grid: what to look for, how much there is, and what is chosen.

import { number } from "./dates.js";
import { ask, button, choices, el, icon, setText, settled } from "./dom.js";
import { say } from "./texts.js";

const PAUSE = 180;
const EMPTY = { search: "", model: "", preset: "", from: "", to: "", trash: "" };

export class HistoryBar {
  /** `deeds` has `remove(ids)`, `restore(ids)` and `empty()`. */
  constructor(found, choice, deeds) {
    Object.assign(this, { found, choice, deeds });
    this.query = { ...EMPTY };
    this.#build();
    found.addEventListener("change", () => this.#drawFound());
    choice.addEventListener("change", () => this.#drawFound());
  }

  /** Whether anything but the trash limits what is shown. */
  get filtered() {
    return Object.entries(this.query).some(([name, value]) => value && name !== "trash");
  }

  /** Asks for the models and presets there are to filter by. */
  async refresh() {
    const [facets, shelf] = await Promise.allSettled([ask("history/facets"), ask("presets")]);
    const models = facets.value?.models ?? [];
    const presets = shelf.value?.presets ?? [];
    choices(this.model, [["", say("history.model.any")], ...models.map(({ name, count }) => [name, `${name} (${number(count)})`])]);
    choices(this.preset, [["", say("history.preset.any")], ...presets.map(({ id, name }) => [id, name])]);
    this.preset.hidden = !presets.length;
  }

  /** Takes all filters away, the trash apart. */
  clear() {
    this.#change({ ...EMPTY, trash: this.query.trash });
  }

  #build() {
    const soon = settled((search) => this.#change({ search }), PAUSE);
    const box = (name, more) => el("input", { name, "aria-label": say(`history.${name}`), autocomplete: "off", ...more });
    this.search = box("search", { type: "search", placeholder: say("history.search.placeholder"), oninput: () => soon(this.search.value) });
    const select = (name) => el("select", { name, "aria-label": say(`history.${name}`), onchange: ({ target }) => this.#change({ [name]: target.value }) });
    this.model = select("model");
    this.preset = select("preset");
    const day = (name) => box(name, { type: "date", max: "9999-12-31", onchange: ({ target }) => this.#change({ [name]: target.value }) });
    this.from = day("from");
    this.to = day("to");
    const dated = (input, name) => el("label", { class: "day" }, el("span", {}, say(`history.${name}`)), input);
    this.trash = button(icon("trash"), () => this.#change({ trash: this.query.trash ? "" : "true" }), { class: "trash", "aria-pressed": "false" });
    this.trash.append(say("history.trash"));
    this.filters = el("div", { class: "filters", id: "history-filters" }, this.model, this.preset, dated(this.from, "from"), dated(this.to, "to"), this.trash);
    this.fold = button(say("history.filters"), () => this.#unfold(), { class: "unfold", "aria-expanded": "false", "aria-controls": "history-filters" });
    this.count = el("p", { class: "count", role: "status" });
    this.folder = el("p", { class: "folder" });
    this.doing = el("div", { class: "doing" });
    this.notice = el("p", { class: "notice" });
    this.root = el("div", { class: "bar" },
      el("div", { class: "seek", role: "search" }, this.search, this.fold, this.filters),
      el("div", { class: "state" }, this.count, this.folder, this.doing),
      this.notice);
  }

  #unfold() {
    const open = this.fold.getAttribute("aria-expanded") !== "true";
    this.fold.setAttribute("aria-expanded", String(open));
  }

  #change(values) {
    this.query = { ...this.query, ...values };
    for (const name of ["search", "model", "preset", "from", "to"]) if (this[name].value !== this.query[name]) this[name].value = this.query[name];
    this.trash.setAttribute("aria-pressed", String(Boolean(this.query.trash)));
    this.fold.classList.toggle("active", ["model", "preset", "from", "to", "trash"].some((name) => this.query[name]));
    this.choice.clear();
    this.found.search(this.query);
  }

  #drawFound() {
    const { found, choice } = this;
    const much = (key, n) => say(`${key}.${n === 1 ? "one" : "many"}`, { n: number(n) });
    const some = choice.size > 0;
    this.root.classList.toggle("some", some);
    setText(this.count, some ? much("history.chosen", choice.size) : much(found.query.trash ? "history.trashed" : "history.count", found.total));
    setText(this.folder, some ? "" : found.folder);
    this.folder.title = found.folder;
    this.#drawDeeds(some);
    const { indexing } = found;
    setText(this.notice, [
      indexing && say("history.indexing", { done: number(indexing.done), total: number(indexing.total) }),
      found.notice,
      found.known && found.problem?.message,
    ].filter(Boolean).join(" · "));
  }

  #drawDeeds(some) {
    const { found, choice, deeds } = this;
    const state = some ? (found.query.trash ? "restore" : "remove") : found.query.trash && found.total ? "empty" : "";
    if (this.doing.dataset.state === state) return;
    this.doing.dataset.state = state;
    const clear = () => button(say("history.unchoose"), () => choice.clear(), { class: "link" });
    this.doing.replaceChildren(...{
      restore: () => [button(say("history.restore"), () => deeds.restore(choice.ids)), clear()],
      remove: () => [button(say("history.delete"), () => deeds.remove(choice.ids), { class: "delete" }), clear()],
      empty: () => [button(say("history.empty"), () => deeds.empty(), { class: "delete" })],
      "": () => [],
    }[state]());
  }
}
