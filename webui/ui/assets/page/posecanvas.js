// The drawing of a pose in the editor: its people, and what one takes the chosen one by.

import { el } from "./dom.js";
import { JOINTS, STICK, boxOf } from "./posebody.js";
import { Figure, svg } from "./posefigure.js";
import { hit } from "./posehit.js";
import { say } from "./texts.js";

// CSS pixels, whatever the zoom.
const AROUND = 18; // From the outermost joints to the box.
const STEM = 26; // From the box to the handle that turns.
const HANDLE = 6;
const LEAST_STICK = 2.5;
const CORNERS = ["nw", "ne", "sw", "se"];

export class PoseCanvas {
  #figures = [];
  #boxed = null;

  constructor() {
    this.frame = svg("rect", { class: "frame", tabindex: 0, role: "button", "data-part": "person" });
    this.stem = svg("line", { class: "stem" });
    this.corners = CORNERS.map((corner) => svg("rect", { class: `handle ${corner}` }));
    this.turner = svg("circle", { class: "handle", tabindex: 0, role: "button", "data-part": "turn" });
    this.corners[3].setAttribute("tabindex", 0);
    this.corners[3].setAttribute("role", "button");
    this.corners[3].dataset.part = "size";
    this.handles = svg("g", { class: "handles" }, this.frame, this.stem, ...this.corners, this.turner);
    this.drawn = svg("g");
    // Two rings, a light one and a dark one: seen over whatever lies behind.
    this.mark = svg("g", { class: "mark away" }, svg("circle", { class: "dark" }), svg("circle", { class: "light" }));
    this.svg = svg("svg", { role: "application", "aria-label": say("pose.canvas") }, this.handles, this.drawn, this.mark);
    this.backdrop = el("img", { alt: "", hidden: true, draggable: false });
    this.element = el("div", {}, this.backdrop, this.svg);
  }

  setSize(width, height) {
    this.size = { width, height };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** Draws the people at a scale of CSS pixels to one of the picture. */
  show(people, chosen, scale) {
    const zoomed = scale !== this.scale;
    this.scale = scale;
    const stick = Math.max(STICK * Math.min(this.size.width, this.size.height), LEAST_STICK / scale);
    while (this.#figures.length < people.length) this.#add();
    while (this.#figures.length > people.length) this.#figures.pop().element.remove();
    for (const [at, figure] of this.#figures.entries()) {
      figure.draw(people[at], stick);
      this.#name(figure, people[at], at, at === chosen);
    }
    if (zoomed || this.#boxed !== people[chosen]) this.#box(people[chosen]);
    this.#boxed = people[chosen];
  }

  /** What of it lies under a point of the picture, for a pointer that reaches so many CSS pixels. */
  hit(people, chosen, point, reach) {
    return hit(people, chosen, this.grips, point, reach / this.scale);
  }

  /** Rings a joint, or nothing. */
  point(person, joint) {
    const [x, y] = joint === null ? [0, 0] : person[joint];
    this.mark.classList.toggle("away", joint === null);
    this.mark.setAttribute("transform", `translate(${x} ${y}) scale(${1 / this.scale})`);
  }

  /** The element of a joint, which takes the focus. */
  joint(person, joint) {
    return this.#figures[person].joints[joint];
  }

  /** Which person and joint an element is of; null where it is none. */
  jointOf(element) {
    const person = this.#figures.findIndex((figure) => figure.joints.includes(element));
    return person < 0 ? null : { person, joint: Number(element.dataset.joint) };
  }

  #add() {
    const figure = new Figure();
    figure.element.setAttribute("role", "group");
    for (const dot of figure.joints) dot.setAttribute("role", "button");
    this.drawn.append(figure.element);
    this.#figures.push(figure);
  }

  /** What a screen reader says of each joint, and which of them Tab walks through. */
  #name(figure, person, at, isChosen) {
    const hidden = person.map((point) => (point[2] ? "" : "h")).join();
    const state = `${at} ${isChosen} ${hidden}`;
    if (figure.state === state) return;
    figure.state = state;
    figure.element.classList.toggle("chosen", isChosen);
    figure.element.setAttribute("aria-label", say("pose.person", { number: at + 1 }));
    for (const [joint, dot] of figure.joints.entries()) {
      const name = say(`pose.joint.${JOINTS[joint]}`);
      dot.setAttribute("aria-label", person[joint][2] ? name : say("pose.hidden", { joint: name }));
      dot.setAttribute("tabindex", isChosen ? 0 : -1);
    }
    if (!isChosen) return;
    this.frame.setAttribute("aria-label", say("pose.whole", { number: at + 1 }));
    this.corners[3].setAttribute("aria-label", say("pose.size", { number: at + 1 }));
    this.turner.setAttribute("aria-label", say("pose.turn", { number: at + 1 }));
  }

  #box(person) {
    const px = 1 / this.scale;
    const inner = boxOf(person);
    const [left, top] = [inner.x - AROUND * px, inner.y - AROUND * px];
    const [right, bottom] = [inner.x + inner.width + AROUND * px, inner.y + inner.height + AROUND * px];
    set(this.frame, { x: left, y: top, width: right - left, height: bottom - top });
    const middle = (left + right) / 2;
    // Where there is no room above, it is turned by its feet.
    const above = top - (STEM + HANDLE) * px >= -12 * px;
    const [edge, end] = above ? [top, top - STEM * px] : [bottom, bottom + STEM * px];
    set(this.stem, { x1: middle, y1: edge, x2: middle, y2: end });
    set(this.turner, { cx: middle, cy: end, r: HANDLE * px });
    const places = [[left, top], [right, top], [left, bottom], [right, bottom]];
    for (const [at, [x, y]] of places.entries()) set(this.corners[at], { x: x - HANDLE * px, y: y - HANDLE * px, width: 2 * HANDLE * px, height: 2 * HANDLE * px });
    this.grips = [["turn", middle, end], ...places.map(([x, y]) => ["size", x, y])];
  }
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}
