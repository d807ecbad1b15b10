// The row of stock poses, each drawn small.

import { button, el } from "./dom.js";
import { Figure, svg } from "./posefigure.js";
import { placed, stockPerson } from "./posestock.js";
import { say } from "./texts.js";

const SIZE = 2.1; // Of all limbs of one who is drawn, of the side of its picture.

/** Buttons of the poses; `take` is given the one that is pressed. */
export function stockRow(poses, take) {
  const buttons = poses.map((pose) => button(thumbnail(pose), () => take(pose), { class: "icon", "aria-label": say(`pose.stock.${pose.name}`), title: say(`pose.stock.${pose.name}`) }));
  return el("div", { class: "pose-stock", role: "group", "aria-label": say("pose.stock") }, ...buttons);
}

function thumbnail(pose) {
  const figure = new Figure();
  figure.draw(placed(stockPerson(pose), { x: 0, y: 0, size: SIZE }), 0.016);
  return svg("svg", { viewBox: "-0.5 -0.5 1 1", "aria-hidden": "true" }, figure.element);
}
