// A person as it is drawn: limbs and joints in SVG, in OpenPose's colours. Only what has changed is touched.

import { COLOURS, JOINTS, LIMBS, LIMB_SHADE } from "./posebody.js";

/** An SVG element with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export class Figure {
  #drawn = [];
  #stick = 0;

  constructor() {
    this.limbs = LIMBS.map((_, limb) => svg("ellipse", { fill: shaded(COLOURS[limb]) }));
    this.joints = JOINTS.map((_, joint) => svg("circle", { class: "joint", fill: COLOURS[joint], "data-joint": joint }));
    this.element = svg("g", { class: "figure" }, ...this.limbs, ...this.joints);
  }

  /** Draws a person with limbs of that half width, in pixels of the picture. */
  draw(person, stick) {
    const all = stick !== this.#stick;
    const isNew = person.map((point, joint) => all || point !== this.#drawn[joint]);
    this.#drawn = person;
    this.#stick = stick;
    for (const [joint, [x, y, seen]] of person.entries()) if (isNew[joint]) this.#drawJoint(this.joints[joint], x, y, seen, all);
    for (const [limb, [upper, hanging]] of LIMBS.entries()) if (isNew[upper] || isNew[hanging]) this.#drawLimb(this.limbs[limb], person[upper], person[hanging], all);
  }

  #drawJoint(dot, x, y, seen, all) {
    if (all) dot.setAttribute("r", this.#stick);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    dot.classList.toggle("away", !seen);
  }

  #drawLimb(limb, [x, y, seen], [toX, toY, alsoSeen], all) {
    if (all) limb.setAttribute("ry", this.#stick);
    limb.setAttribute("rx", Math.hypot(toX - x, toY - y) / 2);
    limb.setAttribute("transform", `translate(${(x + toX) / 2} ${(y + toY) / 2}) rotate(${(Math.atan2(toY - y, toX - x) * 180) / Math.PI})`);
    limb.classList.toggle("away", !(seen && alsoSeen));
  }
}

function shaded(colour) {
  const parts = [1, 3, 5].map((at) => Math.round(parseInt(colour.slice(at, at + 2), 16) * LIMB_SHADE));
  return `rgb(${parts.join(" ")})`;
}
