// One row of the LoRA stack: name, strength, what is heard of it, and a fold with the rest.

import { button, el, icon } from "./dom.js";
import { numberRow, shareRow } from "./slider.js";
import { say } from "./texts.js";

const REACH = 2; // Strength that the slider reaches on both sides; the box takes the field's whole range.

export class LoraRow {
  #folded = { index: -1 };

  /**
   * `parts` are the schemas of a row's fields by name, `stack` what a row can ask for: `set`, `solo`,
   * `remove`, `move`, `open`, `drag` and `deeds`, each with this row.
   */
  constructor(name, parts, stack) {
    Object.assign(this, { name, stack });
    this.#head(name);
    this.#numbers(name, parts);
    this.note = el("p", { class: "note", hidden: true });
    this.mend = button(say("loras.mute.this"), () => stack.set(this, { enabled: false }, null), { class: "link" });
    this.wrong = el("p", { class: "wrong-row", hidden: true });
    this.deeds = el("div", { class: "row-deeds" });
    const place = el("span", { class: "moves" },
      this.up = this.#tool("up", "loras.up", () => stack.move(this, -1)),
      this.down = this.#tool("down", "loras.down", () => stack.move(this, 1)));
    this.fold = el("div", { class: "fold-of-row", hidden: true }, this.text.element, this.begin.element, this.end.element, el("div", { class: "foot" }, this.deeds, place));
    this.element = el("li", { class: "lora-row" }, this.head, el("div", { class: "strength" }, this.weight.element, this.more), this.note, this.wrong, this.fold);
    // Before the slider or the box below gets to see it.
    this.element.addEventListener("keydown", (event) => this.#moved(event), { capture: true });
  }

  /** Shows the row as it is now, in its `index`-th place of `count`. */
  update({ choice, index, count, solo, state, problem }) {
    this.weight.set(choice.weight);
    this.text.set(choice.text_encoder_weight, choice.weight);
    this.begin.set(choice.start);
    this.end.set(choice.end);
    this.element.classList.toggle("muted", !choice.enabled);
    this.element.classList.toggle("wrong", Boolean(problem));
    if (this.mute.getAttribute("aria-pressed") !== String(!choice.enabled)) this.mute.replaceChildren(icon(choice.enabled ? "eye" : "closed"));
    pressed(this.mute, !choice.enabled);
    pressed(this.alone, solo);
    this.alone.disabled = count < 2;
    this.up.disabled = index === 0;
    this.down.disabled = index === count - 1;
    this.note.hidden = !state.words || Boolean(problem);
    this.note.className = `note ${state.tone}`;
    this.note.textContent = state.words;
    this.wrong.hidden = !problem;
    if (problem) this.wrong.replaceChildren(el("span", {}, problem), " ", this.mend);
    if (this.#folded.index !== index) this.#folded = { index };
    this.#fill();
  }

  focus() {
    this.element.querySelector("input[type=range]").focus();
  }

  #head(name) {
    this.grip = el("span", { class: "grip", "aria-hidden": "true", title: say("loras.drag"), onpointerdown: (event) => this.stack.drag(this, event) }, icon("grip"));
    this.title = button(name, () => this.stack.open(this), { class: "link name", title: say("loras.about", { name }), "aria-haspopup": "dialog" });
    this.mute = this.#tool("eye", "loras.mute", () => this.stack.set(this, { enabled: this.mute.getAttribute("aria-pressed") === "true" }, null));
    this.alone = this.#tool("solo", "loras.solo", () => this.stack.solo(this));
    const remove = this.#tool("close", "loras.remove", () => this.stack.remove(this));
    this.head = el("div", { class: "head" }, this.grip, this.title, this.mute, this.alone, remove);
  }

  #numbers(name, parts) {
    const set = (values) => this.stack.set(this, values, "loras");
    const { weight, text_encoder_weight: text, start, end } = parts;
    const strength = { low: -REACH, high: REACH, step: 0.1, fine: 0.01 };
    this.weight = numberRow({ ...strength, label: say("loras.strength", { name }), least: weight.low, most: weight.high }, (value) => set({ weight: value }));
    this.text = numberRow({ ...strength, label: say("loras.text"), least: text.low, most: text.high, empty: say("loras.text.same") }, (value) => set({ text_encoder_weight: value }));
    this.begin = shareRow(say("loras.start"), start.low, end.high, (value) => set({ start: value }));
    this.end = shareRow(say("loras.end"), start.low, end.high, (value) => set({ end: value }));
    this.more = this.#tool("more", "loras.more", () => this.#open(this.fold.hidden));
    this.more.setAttribute("aria-expanded", "false");
  }

  #tool(picture, key, act) {
    return button(icon(picture), act, { class: "icon", "aria-label": say(key, { name: this.name }), title: say(key, { name: this.name }) });
  }

  #open(open) {
    this.fold.hidden = !open;
    this.more.setAttribute("aria-expanded", String(open));
    this.#fill();
  }

  /** Others' deeds are made when the fold is opened, and anew when the row has moved. */
  #fill() {
    const { index, filled } = this.#folded;
    if (this.fold.hidden || filled) return;
    this.#folded.filled = true;
    this.deeds.replaceChildren(...this.stack.deeds(index));
  }

  #moved(event) {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!by || !event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.stack.move(this, by);
  }
}

function pressed(tool, is) {
  tool.setAttribute("aria-pressed", String(is));
}
