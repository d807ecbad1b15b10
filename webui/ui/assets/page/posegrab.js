// Taking hold of a pose with a pointer. A move is only remembered; it is drawn with the next frame.

import { LIMBS, boxOf, carried, moved, pulled, pulledLimb, scaled, turned } from "./posebody.js";

const REACH = { mouse: 16, touch: 22 }; // CSS pixels, to all sides.
const STILL = { mouse: 2, touch: 6 }; // What a hand moves that wants to stay.
const LONG = 550; // Milliseconds.
const CURSORS = { joint: "grab", limb: "grab", person: "move", turn: "crosshair", size: "nwse-resize" };

export class Grab {
  #held = null;
  #frame = 0;
  #latest = null;

  /** `editor` has the people, draws them, and keeps what was changed. */
  constructor(editor) {
    this.editor = editor;
    const { stage } = editor;
    stage.addEventListener("pointerdown", (event) => this.#begin(event));
    stage.addEventListener("pointermove", (event) => this.#remember(event));
    stage.addEventListener("pointerup", (event) => this.#end(event));
    stage.addEventListener("pointercancel", () => this.giveUp());
    stage.addEventListener("pointerleave", () => this.#held || this.editor.hover(null));
    stage.addEventListener("dblclick", (event) => this.#toggle(this.#under(event)));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** What was taken hold of goes back to where it was. */
  giveUp() {
    if (!this.#held) return;
    const { before } = this.#held;
    this.#release();
    this.editor.restore(before);
  }

  #under(event) {
    return this.editor.hit(this.editor.toPicture(event), REACH[event.pointerType] ?? REACH.mouse);
  }

  #begin(event) {
    if (event.button !== 0 || this.#held) return;
    const found = this.#under(event);
    // The focus goes to what was hit, not to what happens to lie topmost there.
    event.preventDefault();
    this.editor.choose(found);
    if (!found) return;
    this.editor.stage.setPointerCapture(event.pointerId);
    const before = this.editor.state;
    this.#held = { ...found, id: event.pointerId, before, base: before.people[found.person], from: this.editor.toPicture(event), at: event, going: false };
    if (found.kind === "joint" && event.pointerType !== "mouse") this.#held.timer = setTimeout(() => this.#hold(), LONG);
  }

  #remember(event) {
    this.#latest = event;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const event = this.#latest;
    if (!this.#held) {
      if (event.pointerType !== "mouse" || event.buttons) return;
      const found = this.#under(event);
      this.editor.stage.style.cursor = (found && CURSORS[found.kind]) ?? "";
      this.editor.hover(found);
      return;
    }
    if (event.pointerId !== this.#held.id) return;
    const still = STILL[event.pointerType] ?? STILL.mouse;
    this.#held.going ||= Math.hypot(event.clientX - this.#held.at.clientX, event.clientY - this.#held.at.clientY) > still;
    if (!this.#held.going) return;
    clearTimeout(this.#held.timer);
    const free = this.editor.keepsLengths === event.altKey;
    this.editor.put(this.#held.person, dragged(this.#held, this.#within(event), free));
  }

  /** Where the pointer is; never so far away that what it holds would be lost. */
  #within(event) {
    const { x, y } = this.editor.toPicture(event);
    const { width, height } = this.editor.size;
    return { x: Math.min(1.5 * width, Math.max(-0.5 * width, x)), y: Math.min(1.5 * height, Math.max(-0.5 * height, y)) };
  }

  #end(event) {
    if (event.pointerId !== this.#held?.id) return;
    this.#latest = event;
    cancelAnimationFrame(this.#frame);
    this.#draw();
    const { before } = this.#held;
    this.#release();
    this.editor.settle(before);
  }

  #hold() {
    const found = this.#held;
    this.giveUp();
    this.#toggle(found);
  }

  #toggle(found) {
    if (found?.kind === "joint") this.editor.toggle(found.person, found.joint);
  }

  #release() {
    clearTimeout(this.#held.timer);
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#held = null;
  }
}

/** The person as it was, with what is held of it moved to where the pointer is. */
function dragged({ kind, base, joint, limb, from }, to, free) {
  const [x, y] = [to.x - from.x, to.y - from.y];
  const box = boxOf(base);
  const middle = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  switch (kind) {
    case "joint":
      return free ? moved(base, [joint], x, y) : pulled(base, joint, { x: base[joint][0] + x, y: base[joint][1] + y });
    case "limb":
      return free ? moved(base, LIMBS[limb], x, y) : pulledLimb(base, LIMBS[limb], x, y);
    case "turn":
      return turned(base, middle, Math.atan2(to.y - middle.y, to.x - middle.x) - Math.atan2(from.y - middle.y, from.x - middle.x));
    case "size": {
      const corner = { x: from.x < middle.x ? box.x + box.width : box.x, y: from.y < middle.y ? box.y + box.height : box.y };
      const [across, down] = [from.x - corner.x, from.y - corner.y];
      return scaled(base, corner, ((to.x - corner.x) * across + (to.y - corner.y) * down) / (across ** 2 + down ** 2));
    }
    default:
      return carried(base, x, y);
  }
}
