// The keys of the pose editor.

import { boxOf, carried, moved, pulled, scaled, turned } from "./posebody.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const DEGREE = Math.PI / 180;

/** Does what a key means in the editor: arrows move, size or turn what has the focus. */
export function pressed(editor, event) {
  if (event.target.closest("input") || event.ctrlKey || event.metaKey) return;
  const inside = editor.canvas.svg.contains(event.target);
  const deed = deedOf(editor, event, inside);
  if (!deed) return;
  event.preventDefault();
  // Space would take hold of the whole stage.
  event.stopPropagation();
  deed();
}

function deedOf(editor, event, inside) {
  const { active, state } = editor;
  const arrow = ARROWS[event.key];
  if (arrow && inside) return () => nudge(editor, event, arrow);
  switch (event.key) {
    case "[":
    case "PageUp":
      return () => editor.walk(-1);
    case "]":
    case "PageDown":
      return () => editor.walk(1);
    case "h":
    case "H":
      return active !== null && (() => editor.toggle(state.chosen, active));
    case "Enter":
    case " ":
      return inside && active !== null && (() => editor.toggle(state.chosen, active));
    case "Delete":
    case "Backspace":
      if (active === null) return () => editor.remove();
      return () => editor.person[active][2] && editor.toggle(state.chosen, active);
    default:
      return null;
  }
}

function nudge(editor, event, [across, down]) {
  const by = event.shiftKey ? 10 : 1;
  const before = editor.state;
  editor.put(before.chosen, nudged(editor, event.target.dataset.part, across * by, down * by));
  // A key that is held is one change.
  if (!event.repeat) editor.settle(before);
}

function nudged({ person, active, keepsLengths }, part, x, y) {
  const box = boxOf(person);
  const middle = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  if (part === "turn") return turned(person, middle, (x + y) * DEGREE);
  if (part === "size") return scaled(person, middle, 1 + (x - y) / 100);
  if (active === null) return carried(person, x, y);
  if (!keepsLengths) return moved(person, [active], x, y);
  return pulled(person, active, { x: person[active][0] + x, y: person[active][1] + y });
}
