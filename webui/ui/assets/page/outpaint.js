// How far the picture is continued: four numbers around a small drawing of it.

import { button, el } from "./dom.js";
import { placed, rounded } from "./fitting.js";
import { say } from "./texts.js";

const SIDES = ["left", "top", "right", "bottom"];
const QUICK = [["wider", [1, 0, 1, 0]], ["taller", [0, 1, 0, 1]], ["around", [1, 1, 1, 1]]];
const SHARE = 0.25; // Of the picture, for both sides together.

export class Outpaint {
  /** `drawing` is shown in the middle; `start` is the picture to start from (see brought.js). */
  constructor(desk, start, drawing) {
    Object.assign(this, { desk, start });
    this.boxes = SIDES.map((side, at) => this.#box(side, at));
    this.none = button(say("outpaint.none"), () => this.#set(desk.defaults.outpaint), { class: "link" });
    this.quick = el("div", { class: "quick" }, el("span", {}, say("outpaint.quick")), ...QUICK.map(([name, sides]) => button(say(`outpaint.${name}`), () => this.#add(sides), { class: "link" })), this.none);
    this.element = el("div", { class: "around field", id: "field-outpaint", role: "group", "aria-label": say("field.outpaint") }, ...this.boxes, drawing, this.quick);
    this.open(false);
  }

  get any() {
    return this.desk.value("outpaint").some(Boolean);
  }

  open(open) {
    this.opened = open;
    for (const part of [...this.boxes, this.quick]) part.hidden = !open;
    this.element.classList.toggle("open", open);
  }

  draw() {
    const margins = this.desk.value("outpaint");
    for (const [at, box] of this.boxes.entries()) {
      const input = box.lastElementChild;
      if (document.activeElement !== input || Number(input.value) !== margins[at]) input.value = String(margins[at]);
    }
    this.none.hidden = !this.any;
    if (this.any && !this.opened) this.open(true);
  }

  #box(side, at) {
    const { high: most, step } = this.desk.schema("width");
    const least = 0;
    const id = `input-outpaint-${side}`;
    const take = (value) => this.#set(this.desk.value("outpaint").map((margin, one) => (one === at ? value : margin)), "outpaint");
    const input = el("input", {
      type: "number", id, inputmode: "numeric", min: String(least), max: String(most), step: String(step), autocomplete: "off",
      oninput: () => input.value !== "" && input.checkValidity() && take(Number(input.value)),
      onblur: () => {
        if (!input.checkValidity() && input.value !== "") take(Math.max(least, Math.min(most, rounded(Number(input.value)))));
        input.value = String(this.desk.value("outpaint")[at]);
      },
    });
    return el("div", { class: `margin ${side}` }, el("label", { for: id }, say(`outpaint.${side}`)), input);
  }

  /** A quarter more of the picture, on those sides that are 1. */
  #add(sides) {
    const place = placed(this.desk.request, this.start.size, this.desk.schema("width").high);
    if (!place) return;
    const more = [place.inner.width, place.inner.height].map((side) => rounded(side * SHARE / 2));
    this.#set(this.desk.value("outpaint").map((margin, at) => margin + sides[at] * more[at % 2]));
  }

  /** Width and height hold the margins: where they are given, they grow along. */
  #set(margins, from = null) {
    const before = this.desk.value("outpaint");
    const grown = [0, 1].map((at) => margins[at] + margins[at + 2] - before[at] - before[at + 2]);
    const values = { outpaint: margins };
    for (const [at, side] of ["width", "height"].entries()) {
      const value = this.desk.value(side);
      if (typeof value === "number") values[side] = value + grown[at];
    }
    this.desk.change(values, from);
  }
}
