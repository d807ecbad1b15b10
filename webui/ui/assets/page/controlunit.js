// One control unit: what it steers by and the hint made of it, its kind and weight, and a fold with the rest.

import { ControlFold, fill, withPreprocessor } from "./controlfold.js";
import { button, el, icon } from "./dom.js";
import { STICK } from "./posebody.js";
import { Figure, svg } from "./posefigure.js";
import { numberRow } from "./slider.js";
import { say, sayable } from "./texts.js";

const BOLDER = 2.5; // Times the usual width of limbs: the figure is small.

export class ControlUnit {
  #source = null;
  #weight;
  #gone = false;

  /** `stack` is what a unit can ask for: `set`, `remove`, `edit`, `replace` and `enlarge`, each with this unit, and whether the picture is `masked`. */
  constructor(parts, shelf, stack) {
    Object.assign(this, { parts, shelf, stack, hint: null });
    this.#weight = parts.weight.default;
    const set = (values) => stack.set(this, values);
    this.source = button("", () => (this.value.pose ? stack.edit(this) : stack.replace(this)), { class: "source" });
    this.kind = el("select", { "aria-label": say("control.kind"), onchange: () => set({ kind: this.kind.value, model: null, ...withPreprocessor(null) }) });
    this.kindOfPose = el("span", { class: "kind" }, say("control.kind.pose"));
    this.mute = this.#tool("eye", "control.mute", () => set({ weight: this.value.weight ? 0 : this.#weight }));
    this.more = this.#tool("more", "control.more", () => this.#open(this.fold.element.hidden));
    this.more.setAttribute("aria-expanded", "false");
    this.weight = numberRow({ label: say("control.weight"), low: parts.weight.low, high: parts.weight.high, step: 0.05, fine: 0.01 }, (weight) => set({ weight }));
    this.fold = new ControlFold(parts, shelf, set);
    this.notes = el("div", { class: "notes" });
    this.shown = el("button", { type: "button", class: "hint", "aria-label": say("control.hint.large"), title: say("control.hint.large"), onclick: () => stack.enlarge(this.hint) }, el("img", { alt: "" }));
    this.hinted = el("div", { class: "hinted", hidden: true }, this.shown, el("span", {}, say("control.hint")));
    this.box = el("div", { class: "control-unit", role: "group" },
      this.source,
      el("div", { class: "head" }, this.kind, this.kindOfPose, this.mute, this.#tool("close", "control.remove", () => stack.remove(this))),
      el("div", { class: "strength" }, this.weight.element, this.more),
      this.hinted, this.notes, this.fold.element);
    this.element = el("li", {}, this.box);
  }

  /** Shows the unit in its `index`-th place; `problem` is a sentence about it, `size` that of the picture. */
  update({ value, index, problem, size }) {
    this.value = value;
    if (value.weight) this.#weight = value.weight;
    this.box.setAttribute("aria-label", say("control.unit", { n: index + 1, kind: kindName(value.kind) }));
    this.box.classList.toggle("muted", !value.weight);
    this.mute.setAttribute("aria-pressed", String(!value.weight));
    this.mute.replaceChildren(icon(value.weight ? "eye" : "closed"));
    this.kind.hidden = Boolean(value.pose);
    this.kindOfPose.hidden = !value.pose;
    const { own } = this.shelf;
    const kinds = this.parts.kind.choices.filter((kind) => !own || own.includes(kind) || kind === value.kind);
    fill(this.kind, kinds.map((kind) => [kind, kindName(kind)]), value.kind);
    this.mute.hidden = this.weight.element.hidden = !this.shelf.uses("weight") && value.weight === this.parts.weight.default;
    this.weight.set(value.weight);
    this.#drawSource(value);
    this.#drawHint();
    this.fold.update(value, size);
    this.notes.replaceChildren(...(problem ? [this.#wrong(problem)] : this.#advice(value)));
  }

  /** All that its hint depends on. */
  get sourceKey() {
    const { weight, start, end, model, ...rest } = this.value;
    return JSON.stringify(rest);
  }

  focus() {
    (this.weight.element.hidden ? this.source : this.weight.element.querySelector("input[type=range]")).focus();
  }

  /** Takes the hint that the engine made; `key` is what it was made of. */
  take(hint, key) {
    if (key !== this.sourceKey) return;
    this.hint = hint;
    this.hintOf = key;
    this.#drawHint();
  }

  #drawHint() {
    if (this.hintOf !== this.sourceKey) this.hint = null;
    this.hinted.hidden = !this.hint;
    const image = this.shown.firstElementChild;
    if (this.hint) image.src = this.hint;
    else image.removeAttribute("src");
  }

  #drawSource({ pose, picture }) {
    const source = pose ?? picture;
    if (source === this.#source) return;
    this.#source = source;
    this.#gone = false;
    const words = say(pose ? "control.pose.edit" : "control.picture.other");
    this.source.setAttribute("aria-label", words);
    this.source.title = words;
    this.source.replaceChildren(pose ? skeleton(pose) : this.#thumbnail(picture));
  }

  #thumbnail(picture) {
    const image = el("img", { src: `uploads/${encodeURIComponent(picture)}.png`, alt: "" });
    image.addEventListener("error", () => {
      if (this.#source !== picture) return;
      this.#gone = true;
      image.replaceWith(icon("picture"));
      this.notes.replaceChildren(...this.#advice(this.value));
    });
    return image;
  }

  /** What stands in the way of it, before it is run. */
  #advice(value) {
    if (this.#gone) return [note(say("control.gone"))];
    if (!this.shelf.known || !value.weight) return [];
    const notes = this.shelf.own ? [el("p", { class: "quietly" }, say("control.own"))] : [];
    if (value.kind === "inpaint" && !this.stack.masked) notes.push(note(say("control.inpaint")));
    const missing = this.shelf.missing(this.shelf.drawnBy(value));
    if (missing) notes.push(note(missing, button(say("control.as.it.is"), () => this.stack.set(this, withPreprocessor("none")), { class: "link" })));
    if (!value.model && !this.shelf.usual(value.kind)) {
      if (value.kind === "other") notes.push(note(say("control.other")));
      else if (this.shelf.any) notes.push(note(say("control.none", { place: this.shelf.place })));
    }
    return notes;
  }

  #wrong(problem) {
    return el("p", { class: "wrong-unit" }, problem, " ", button(say("control.remove"), () => this.stack.remove(this), { class: "link" }));
  }

  #open(open) {
    this.fold.element.hidden = !open;
    this.more.setAttribute("aria-expanded", String(open));
  }

  #tool(picture, key, act) {
    return button(icon(picture), act, { class: "icon", "aria-label": say(key), title: say(key) });
  }
}

/** A kind of hint in words. */
export function kindName(kind) {
  const key = `control.kind.${kind.replaceAll(" ", "_")}`;
  return sayable(key) ? say(key) : kind;
}

function note(words, deed = null) {
  return el("p", { class: "warn" }, words, ...(deed ? [" ", deed] : []));
}

/** The people of a pose, small, on black as the engine draws them. */
function skeleton({ width, height, people }) {
  const stick = BOLDER * STICK * Math.min(width, height);
  const figures = people.map((person) => {
    const figure = new Figure();
    figure.draw(person, stick);
    return figure.element;
  });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "skeleton", "aria-hidden": "true" }, ...figures);
}
