// The LoRA stack: rows to add, weigh, mute, order and remove; neighbours add their own deeds to it.

import { arrange, button, el, icon, toast } from "./dom.js";
import { LoraCard } from "./loracard.js";
import { LoraPicker } from "./lorapicker.js";
import { LoraRow } from "./lorarow.js";
import { fitOf, LoraShelf } from "./lorashelf.js";
import { panel } from "./panel.js";
import { say } from "./texts.js";

export class LoraStack {
  /** Elements for the fold of a row, by its place; set by whoever has something to say of single rows. */
  rowDeeds = () => [];
  #panelDeeds = () => [];
  #heard = { job: null, model: null, of: new Map() };
  #problem = null;
  #before = null;
  #dragged = false;

  /** Fills `root`, a section of page.html. */
  constructor(root, desk, look, job) {
    Object.assign(this, { desk, look, job });
    this.rows = [];
    this.shelf = new LoraShelf();
    this.card = new LoraCard(desk, look, this.shelf);
    this.picker = new LoraPicker(look, this.shelf, { add: (name) => this.put(name), open: (name) => this.card.open(name) });
    const field = desk.fields.find(({ name }) => name === "loras");
    this.parts = Object.fromEntries(field.parts.map((part) => [part.name, part]));
    this.add = button(icon("plus"), () => this.picker.open(), { class: "link add", "aria-haspopup": "dialog" });
    this.add.append(say("loras.add"));
    this.list = panel(root, say("loras"), [this.add]);
    this.under = el("div", { class: "panel-under", hidden: true });
    root.append(this.under);
    this.#listen();
    this.#draw();
    this.refresh();
  }

  /** Elements that stand under the rows while there are any. */
  set panelDeeds(deeds) {
    this.#panelDeeds = deeds;
    this.under.replaceChildren(...deeds());
  }

  /** Elements for the card of a LoRA, by its name. */
  set cardExtras(extras) {
    this.card.extras = extras;
  }

  /** Asks for the LoRAs that are on the shelf now. */
  refresh() {
    // The line about the engine tells of a server that does not answer.
    return this.shelf.refresh().catch(() => {});
  }

  #listen() {
    const draw = () => this.#draw();
    this.desk.addEventListener("change", ({ detail }) => {
      if (["loras", "model"].some((name) => detail.names.includes(name))) draw();
    });
    this.look.addEventListener("models", draw);
    this.shelf.addEventListener("cards", draw);
    this.job.addEventListener("view", () => {
      const { view } = this.job;
      if (view.loras.length && view.job !== this.#heard.job) this.#heard = { job: view.job, model: this.desk.value("model") };
      if (view.loras.length) this.#heard.of = new Map(view.loras.map((lora) => [lora.name, lora]));
      if (view.problem || view.busy) this.#problem = view.problem;
      draw();
    });
    this.look.addEventListener("seen", () => {
      if (this.job.busy) return;
      this.#problem = this.look.seen.problem ?? this.job.problem;
      draw();
    });
  }

  #draw() {
    // A row that is put anew into its place is let go of by the pointer.
    if (this.#dragged) return;
    const choices = this.desk.value("loras");
    const free = [...this.rows];
    this.rows = choices.map((choice, index) => {
      const same = free[index]?.name === choice.name ? index : free.findIndex((row) => row?.name === choice.name);
      return same < 0 ? new LoraRow(choice.name, this.parts, this) : free.splice(same, 1, null)[0];
    });
    arrange(this.list, this.rows.map((row) => row.element));
    if (this.#before && !choices.every(({ enabled }, at) => enabled === (this.rows[at] === this.#before.alone))) this.#before = null;
    for (const [index, row] of this.rows.entries()) {
      const problem = this.#problem?.field === `loras.${index}` ? this.#problem.message : null;
      const solo = this.#before?.alone === row;
      row.update({ choice: choices[index], index, count: choices.length, solo, state: this.#state(choices[index]), problem });
    }
    this.under.hidden = !choices.length;
  }

  /** What there is to say of a row: before its use what is known of the file, afterwards how much fitted. */
  #state({ name }) {
    const warn = (key, values = {}) => ({ tone: "warn", words: say(key, { name, ...values }) });
    const cards = this.shelf.find(name);
    if (!this.shelf.known) return { tone: "", words: "" };
    if (!cards.length) return warn("loras.missing");
    if (cards.length > 1) return warn("loras.several", { n: cards.length });
    const [card] = cards;
    const fit = fitOf(card, this.look.model);
    if (fit === "broken") return { tone: "warn", words: card.problem };
    const heard = this.#heard.model === this.desk.value("model") ? this.#heard.of.get(name) : null;
    if (heard) return { tone: heard.matched < heard.total ? "warn" : "", words: say("loras.matched", { matched: heard.matched, total: heard.total }) };
    if (fit === "other") return warn("loras.other", { family: card.family, own: this.look.model.loras });
    return { tone: "", words: "" };
  }

  /** Puts a LoRA on the stack, last, as strong as it was made to be used. */
  put(name) {
    const defaults = Object.fromEntries(Object.values(this.parts).map((part) => [part.name, part.default]));
    const weight = this.shelf.find(name)[0]?.strength ?? defaults.weight;
    this.desk.change({ loras: [...this.desk.value("loras"), { ...defaults, name, weight }] });
    this.rows.at(-1).focus();
  }

  /** Changes some fields of a row; `from` names the widget as in `Desk.change`. */
  set(row, values, from) {
    const at = this.rows.indexOf(row);
    this.desk.change({ loras: this.desk.value("loras").map((choice, index) => (index === at ? { ...choice, ...values } : choice)) }, from);
  }

  /** Mutes all other rows; once more, and each is again what it was. */
  solo(row) {
    const choices = this.desk.value("loras");
    const again = this.#before?.alone === row;
    const before = this.#before?.enabled ?? new Map(this.rows.map((one, at) => [one, choices[at].enabled]));
    this.#before = again ? null : { alone: row, enabled: before };
    const enabled = (one) => (again ? before.get(one) ?? true : one === row);
    this.desk.change({ loras: choices.map((choice, at) => ({ ...choice, enabled: enabled(this.rows[at]) })) });
    this.#draw();
  }

  remove(row) {
    const at = this.rows.indexOf(row);
    const choice = this.desk.value("loras")[at];
    this.desk.change({ loras: this.desk.value("loras").toSpliced(at, 1) });
    (this.rows[Math.min(at, this.rows.length - 1)] ?? { focus: () => this.add.focus() }).focus();
    // Only the row comes back: what was changed meanwhile stays.
    const undo = () => { this.desk.change({ loras: this.desk.value("loras").toSpliced(at, 0, choice) }); this.rows[at]?.focus(); };
    toast(say("loras.removed", { name: row.name }), { words: say("diff.undo"), act: undo });
  }

  move(row, by) {
    const at = this.rows.indexOf(row);
    const to = at + by;
    if (to < 0 || to >= this.rows.length) return;
    const rows = [...this.rows];
    [rows[at], rows[to]] = [rows[to], rows[at]];
    this.#order(rows);
  }

  open(row) {
    this.card.open(row.name);
  }

  deeds(index) {
    return this.rowDeeds(index);
  }

  /** Moves a row with the pointer: its neighbours give way, and where it is let go is its place. */
  drag(row, event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const { element, grip } = row;
    const over = new AbortController();
    const moved = ({ clientY }) => {
      const [above, below] = [element.previousElementSibling, element.nextElementSibling];
      if (above && clientY < middle(above)) element.after(above);
      else if (below && clientY > middle(below)) element.before(below);
    };
    const ended = ({ type }) => {
      over.abort();
      element.classList.remove("dragged");
      this.#dragged = false;
      const shown = [...this.list.children];
      if (type === "pointerup") this.#order([...this.rows].sort((one, other) => shown.indexOf(one.element) - shown.indexOf(other.element)));
      else this.#draw();
    };
    grip.setPointerCapture(event.pointerId);
    element.classList.add("dragged");
    this.#dragged = true;
    grip.addEventListener("pointermove", moved, over);
    for (const end of ["pointerup", "pointercancel"]) grip.addEventListener(end, ended, over);
  }

  #order(rows) {
    const choices = this.desk.value("loras");
    const loras = rows.map((row) => choices[this.rows.indexOf(row)]);
    this.rows = rows;
    this.desk.change({ loras });
    this.#draw();
  }
}

function middle(element) {
  const { top, height } = element.getBoundingClientRect();
  return top + height / 2;
}
