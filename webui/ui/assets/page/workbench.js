// A sheet that fills the window for work on a picture: a stage that can be zoomed and moved, a row of
// tools above it, and the deeds below. The pose editor and the mask are such.

import { button, el, icon } from "./dom.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";

const CLOSEST = 16; // Times the size at which the picture fills the stage.
const NOTCH = 1.25;
const LINE = 16; // CSS pixels that a wheel counted in lines moves by.
const EDGE = 40; // CSS pixels of the picture that cannot be moved out of the stage.

export class Workbench extends Sheet {
  /** `work` is the element that is worked on; it is given the picture's size in CSS pixels. */
  constructor(name, title, work) {
    super(name, title, { typed: true });
    this.dialog.classList.add("workbench");
    this.work = work;
    this.work.classList.add("work");
    // In reach of the keyboard: a click that lands on nothing would leave its keys unheard.
    this.stage = el("div", { class: "stage", tabindex: "0", role: "group", "aria-label": title }, work);
    this.tools = el("div", { class: "tools", role: "toolbar", "aria-label": say("bench.tools") });
    this.body.append(this.tools, this.stage);
    this.zoomed = 1;
    this.at = { x: 0, y: 0 };
    this.pointers = new Map();
    this.held = false;
    this.stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    // Before the work hears of it: two fingers move and zoom, whatever one of them has begun.
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) this.stage.addEventListener(kind, (event) => this.#touch(event), { capture: true });
    // Else a pressed wheel would scroll by itself.
    this.stage.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault());
    new ResizeObserver(() => this.#place()).observe(this.stage);
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    this.dialog.addEventListener("keyup", (event) => event.key === " " && this.#hold(false));
    this.dialog.addEventListener("close", () => { this.pointers.clear(); this.#hold(false); });
  }

  /** Buttons to undo, redo and zoom; `past` needs `undo()`, `redo()` and tells by `refresh` what can be done. */
  addCommonTools() {
    const tool = (name, key, deed) => button(icon(name), deed, { class: "icon", "aria-label": say(key), title: say(key) });
    this.undoTool = tool("undo", "bench.undo", () => this.undo());
    this.redoTool = tool("redo", "bench.redo", () => this.redo());
    this.tools.append(
      el("span", { class: "tool-group" }, this.undoTool, this.redoTool),
      el("span", { class: "tool-group" }, tool("minus", "bench.out", () => this.zoom(1 / NOTCH)), tool("fit", "bench.fit", () => this.fit()), tool("plus", "bench.in", () => this.zoom(NOTCH))),
    );
  }

  /** Takes the last change back, and brings it again; an editor says how. */
  undo() {}

  redo() {}

  /** Sets what can be undone and redone. */
  showPast(past) {
    this.undoTool.disabled = !past.canUndo;
    this.redoTool.disabled = !past.canRedo;
  }

  /** Sets the size of the picture that is worked on, and shows all of it. */
  setSize(width, height) {
    this.size = { width, height };
    this.work.style.width = `${width}px`;
    this.work.style.height = `${height}px`;
    this.fit();
  }

  fit() {
    this.zoomed = 1;
    this.at = { x: 0, y: 0 };
    this.#place();
  }

  /** Zooms by a factor, so that what is at a point of the window stays there; else the middle does. */
  zoom(by, point = null) {
    const box = this.stage.getBoundingClientRect();
    const x = (point?.x ?? box.x + box.width / 2) - box.x - box.width / 2;
    const y = (point?.y ?? box.y + box.height / 2) - box.y - box.height / 2;
    const before = this.zoomed;
    this.zoomed = Math.min(CLOSEST, Math.max(0.5, before * by));
    const grown = this.zoomed / before;
    this.at = { x: x - (x - this.at.x) * grown, y: y - (y - this.at.y) * grown };
    this.#place();
  }

  /** CSS pixels of the window that one pixel of the picture takes. */
  get scale() {
    return this.fitting * this.zoomed;
  }

  /** Where an event is in the picture, in its pixels. */
  toPicture(event) {
    const box = this.work.getBoundingClientRect();
    return { x: (event.clientX - box.x) / this.scale, y: (event.clientY - box.y) / this.scale };
  }

  /** What is drawn on the work is to be taken back: a second finger came down. An editor says how. */
  giveUp() {}

  #place() {
    const box = this.stage.getBoundingClientRect();
    if (!this.size || !box.width) return;
    const { width, height } = this.size;
    this.fitting = Math.min((box.width - 24) / width, (box.height - 24) / height);
    // Some of the picture always stays in sight.
    const within = (at, side, room) => {
      const most = Math.max(0, (side * this.scale + room) / 2 - EDGE);
      return Math.max(-most, Math.min(most, at));
    };
    this.at = { x: within(this.at.x, width, box.width), y: within(this.at.y, height, box.height) };
    const left = (box.width - width * this.scale) / 2 + this.at.x;
    const top = (box.height - height * this.scale) / 2 + this.at.y;
    this.work.style.transform = `translate(${left}px, ${top}px) scale(${this.scale})`;
    this.dialog.style.setProperty("--scale", this.scale);
    this.dialog.dispatchEvent(new Event("scaled"));
  }

  #wheel(event) {
    event.preventDefault();
    const by = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * LINE : event.deltaY;
    this.zoom(Math.exp(-by / 400), { x: event.clientX, y: event.clientY });
  }

  #touch(event) {
    // A mouse that was let go outside of the window never said so.
    if (event.type === "pointermove" && event.pointerType === "mouse" && !event.buttons) this.pointers.delete(event.pointerId);
    const known = this.pointers.get(event.pointerId);
    if (event.type === "pointerdown") this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const moving = this.pointers.size > 1 || (event.buttons & 4) === 4 || this.held;
    if (event.type === "pointerdown" && this.pointers.size === 2) this.giveUp();
    if (event.type === "pointerdown" && moving) this.stage.setPointerCapture(event.pointerId);
    if (event.type === "pointermove" && known && moving) this.#move(event, known);
    if (moving) event.stopPropagation();
    if (known && event.type === "pointermove") this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (event.type === "pointerup" || event.type === "pointercancel") this.pointers.delete(event.pointerId);
  }

  /** One pointer moves the picture by what it moved; two move and zoom it together. */
  #move(event, before) {
    const now = { x: event.clientX, y: event.clientY };
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    const share = other ? 0.5 : 1;
    this.at = { x: this.at.x + (now.x - before.x) * share, y: this.at.y + (now.y - before.y) * share };
    if (other) this.zoom(distance(now, other) / Math.max(1, distance(before, other)), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    else this.#place();
  }

  #hold(held) {
    this.held = held;
    this.stage.classList.toggle("held", held);
  }

  #key(event) {
    if (event.target.closest("input:not([type=range]), select, textarea")) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (command && key === "z") {
      event.preventDefault();
      if (event.shiftKey) this.redo();
      else this.undo();
    } else if (command && key === "y") {
      event.preventDefault();
      this.redo();
    } else if (event.key === " " && !event.target.closest("button")) {
      event.preventDefault();
      this.#hold(true);
    } else if (!command && ["+", "=", "-", "0"].includes(key)) {
      event.preventDefault();
      if (key === "0") this.fit();
      else this.zoom(key === "-" ? 1 / NOTCH : NOTCH);
    }
  }
}

function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
