// The canvas on which is painted what of a picture is to be made anew.

import { ask, button, el, icon, toast } from "./dom.js";
import { Mask, bytesOf, united } from "./mask.js";
import { placed } from "./fitting.js";
import { Past } from "./past.js";
import { range } from "./slider.js";
import { say } from "./texts.js";
import { Workbench } from "./workbench.js";

const TOOLS = { brush: "b", eraser: "e", lasso: "l" };
const STATES = 100;
const ROOM = 64e6; // Bytes for what can be taken back.
const THINNEST = 2; // Pixels across.
const SPACING = 1 / 6; // Of the brush's radius, between two points of a stroke.

export class MaskEditor extends Workbench {
  /**
   * `start` and `known` are the picture and the mask of the recipe (see brought.js); `taken(soft)` is
   * called when another mask came into it, and hears whether it was painted softly.
   */
  constructor(desk, start, known, taken) {
    const picture = el("img", { alt: "", draggable: "false" });
    const canvas = el("canvas", { role: "img", "aria-label": say("mask.canvas") });
    const outline = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    const sketch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    sketch.append(outline);
    super("mask", say("mask.title"), el("div", {}, picture, canvas, sketch));
    Object.assign(this, { desk, start, known, taken, picture, canvas, outline, sketch });
    this.past = new Past(STATES, (states) => bytesOf(states) <= ROOM);
    this.ring = el("div", { class: "ring", hidden: true }, el("i"));
    this.stage.append(this.ring);
    this.stage.setAttribute("aria-describedby", "mask-hint");
    this.#buildTools();
    this.#buildFoot();
    this.#listen();
    this.choose("brush");
  }

  /** Opens it over the picture to start from, with the mask there is; what was left open goes on. */
  async open() {
    super.open();
    if (this.of === this.start.id && this.changed) return;
    await this.attempt(() => this.#load());
  }

  choose(tool) {
    this.tool = tool;
    for (const [name, one] of this.choosers) one.setAttribute("aria-pressed", String(name === tool));
    this.ring.hidden = tool === "lasso";
  }

  undo() {
    if (this.mask && !this.painting) this.#goTo(this.past.undo(this.mask.state));
  }

  redo() {
    if (this.mask && !this.painting) this.#goTo(this.past.redo(this.mask.state));
  }

  giveUp() {
    this.painting = null;
    this.outline.removeAttribute("points");
    this.#show(this.mask?.giveUp());
  }

  get brush() {
    return { radius: this.across / 2, softness: this.softness };
  }

  async #load() {
    const { start, known } = this;
    this.of = null;
    this.mask = null;
    await Promise.all([start.ready, known.ready]);
    if (!start.size) throw new Error(say("start.gone"));
    const { width, height } = start.size;
    this.picture.src = start.address;
    Object.assign(this.canvas, { width, height });
    this.sketch.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.pen = this.canvas.getContext("2d");
    this.#lay(width, height);
    this.mask = new Mask(width, height);
    if (known.image) this.mask.load(known.image);
    this.past.clear();
    Object.assign(this, { of: start.id, changed: false, last: null, ink: this.#ink() });
    this.widest = Math.round(Math.max(width, height) / 2);
    this.setAcross(this.across ?? Math.round(Math.max(width, height) / 12));
    this.#show(this.mask.whole);
    this.#tell();
  }

  /** Puts the picture where it will lie within its margins, without what will be cut off. */
  #lay(width, height) {
    const place = placed(this.desk.request, { width, height }, this.desk.schema("width").high);
    const shown = place ? { width: place.whole.width / place.scale, height: place.whole.height / place.scale } : { width, height };
    const [left, top] = place ? this.desk.value("outpaint") : [0, 0];
    this.corner = place ? { x: left / place.scale - place.cut.x, y: top / place.scale - place.cut.y } : { x: 0, y: 0 };
    for (const layer of [this.picture, this.canvas, this.sketch]) {
      Object.assign(layer.style, { left: `${this.corner.x}px`, top: `${this.corner.y}px`, width: `${width}px`, height: `${height}px` });
    }
    // What lies beyond the cut is not there to be painted.
    const inset = place ? [place.cut.y, place.cut.x, place.cut.y, place.cut.x] : [0, 0, 0, 0];
    for (const layer of [this.picture, this.canvas]) layer.style.clipPath = `inset(${inset.map((side) => `${side}px`).join(" ")})`;
    this.setSize(shown.width, shown.height);
  }

  #buildTools() {
    this.choosers = new Map(Object.entries(TOOLS).map(([name, key]) => {
      const words = say("mask.key", { tool: say(`mask.${name}`), key: key.toUpperCase() });
      return [name, button(icon(name), () => this.choose(name), { class: "icon", "aria-label": words, title: words, "aria-pressed": "false" })];
    }));
    this.acrossTool = slider(say("mask.size"), (share) => this.setAcross(THINNEST + (this.widest - THINNEST) * share ** 2));
    this.softTool = slider(say("mask.softness"), (share) => this.setSoftness(share));
    this.tools.append(el("span", { class: "tool-group" }, ...this.choosers.values()), this.acrossTool.element, this.softTool.element);
    this.addCommonTools();
    const whole = (key, change) => button(say(key), () => this.#remember(this.mask?.map(change)));
    this.tools.append(el("span", { class: "tool-group" }, whole("mask.invert", (value) => 255 - value), whole("mask.clear", () => 0)));
    this.setSoftness(0);
  }

  setAcross(pixels) {
    this.across = Math.max(THINNEST, Math.min(this.widest, Math.round(pixels)));
    this.acrossTool.set(Math.sqrt((this.across - THINNEST) / Math.max(1, this.widest - THINNEST)), say("mask.pixels", { n: this.across }));
    this.#drawRing();
  }

  setSoftness(share) {
    this.softness = share;
    this.softTool.set(share, say("mask.percent", { n: Math.round(100 * share) }));
    this.#drawRing();
    this.#tell();
  }

  #buildFoot() {
    const soften = button(say("mask.soften"), () => { this.desk.change({ soft_mask: true }); this.#tell(); }, { class: "link" });
    this.softly = el("p", { class: "softly", role: "status", hidden: true }, say("mask.hard"), " ", soften);
    const done = button(say("bench.done"), () => this.attempt(() => this.#take()), { class: "primary" });
    this.footer.append(
      el("div", { class: "hints" }, this.softly, el("p", { class: "hint", id: "mask-hint" }, say("mask.hint"))),
      button(say("bench.cancel"), () => { this.changed = false; this.close(); }), done,
    );
    this.dialog.addEventListener("close", () => {
      this.giveUp();
      if (this.changed) toast(say("mask.left"), { words: say("mask.goon"), act: () => this.open() });
    });
  }

  /** The painted mask becomes the recipe's; one without anything in it is none. */
  async #take() {
    if (!this.mask) return;
    if (this.changed || this.known.gone) {
      const { id } = this.mask.empty ? { id: null } : await ask("uploads?kind=mask", { method: "POST", body: await this.mask.toBlob() });
      this.changed = false;
      this.desk.change({ mask: id });
      this.taken(this.mask.soft);
    }
    this.close();
  }

  #listen() {
    const { stage } = this;
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    stage.addEventListener("pointerup", (event) => this.#up(event));
    stage.addEventListener("pointercancel", () => this.giveUp());
    stage.addEventListener("pointerleave", () => { this.ring.hidden = true; });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    this.dialog.addEventListener("scaled", () => this.#drawRing());
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  #at(event) {
    const { x, y } = this.toPicture(event);
    return { x: x - this.corner.x, y: y - this.corner.y };
  }

  #down(event) {
    if (!this.mask || this.painting || (event.button !== 0 && event.button !== 2)) return;
    this.stage.setPointerCapture(event.pointerId);
    const at = this.#at(event);
    this.mask.begin(this.tool === "eraser" || event.altKey || event.button === 2);
    this.painting = { pointer: event.pointerId, points: [at] };
    this.#point(event);
    if (this.tool !== "lasso") this.#draw(event.shiftKey && this.last ? this.last : at, at);
  }

  #move(event) {
    this.#point(event);
    if (this.painting?.pointer !== event.pointerId) return;
    const { points } = this.painting;
    const least = this.tool === "lasso" ? 1 / this.scale : Math.max(0.5, this.brush.radius * SPACING);
    for (const one of event.getCoalescedEvents?.() ?? [event]) {
      const at = this.#at(one);
      const from = points.at(-1);
      if (Math.hypot(at.x - from.x, at.y - from.y) < least) continue;
      points.push(at);
      if (this.tool !== "lasso") this.#draw(from, at);
    }
    if (this.tool === "lasso") this.outline.setAttribute("points", points.map(({ x, y }) => `${x},${y}`).join(" "));
  }

  #up(event) {
    if (this.painting?.pointer !== event.pointerId) return;
    const { points } = this.painting;
    const at = this.#at(event);
    if (this.tool === "lasso") this.#show(this.mask.area([...points, at]));
    else this.#draw(points.at(-1), at);
    this.outline.removeAttribute("points");
    this.painting = null;
    this.last = at;
    if (event.pointerType === "touch") this.ring.hidden = true;
    this.#remember(this.mask.end());
  }

  /** By keyboard the brush goes step by step, and Enter sets it down; with Shift in a line. */
  #key(event) {
    if (!this.mask || event.ctrlKey || event.metaKey || event.target.closest("input, button")) return;
    const key = event.key.toLowerCase();
    const way = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] }[key];
    const tool = Object.keys(TOOLS).find((name) => TOOLS[name] === key);
    if (tool) this.choose(tool);
    else if (key === "[" || key === "]") this.setAcross(key === "[" ? Math.min(this.across - 1, this.across / 1.2) : Math.max(this.across + 1, this.across * 1.2));
    else if (way) this.#step(way);
    else if (key === "enter" && this.pointed) this.#dab(event);
    else return;
    event.preventDefault();
  }

  #step([x, y]) {
    const far = Math.max(1, this.across / 4);
    const from = this.pointed ?? { x: this.mask.width / 2, y: this.mask.height / 2 };
    this.pointed = { x: Math.max(0, Math.min(this.mask.width, from.x + x * far)), y: Math.max(0, Math.min(this.mask.height, from.y + y * far)) };
    this.ring.hidden = false;
    this.#drawRing();
  }

  #dab(event) {
    this.mask.begin(this.tool === "eraser" || event.altKey);
    this.#draw(event.shiftKey && this.last ? this.last : this.pointed, this.pointed);
    this.last = this.pointed;
    this.#remember(this.mask.end());
  }

  #point(event) {
    this.pointed = this.mask ? this.#at(event) : null;
    this.ring.hidden = !this.pointed || this.tool === "lasso";
    this.#drawRing();
  }

  /** Two rings about the pointer: how far the brush reaches, and how far in full. */
  #drawRing() {
    if (!this.pointed || !this.corner || this.ring.hidden) return;
    const box = this.stage.getBoundingClientRect();
    const work = this.work.getBoundingClientRect();
    const x = work.x - box.x + (this.pointed.x + this.corner.x) * this.scale;
    const y = work.y - box.y + (this.pointed.y + this.corner.y) * this.scale;
    this.ring.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
    this.ring.style.width = this.ring.style.height = `${this.across * this.scale}px`;
    this.ring.firstElementChild.style.inset = `${50 * this.softness}%`;
    this.ring.classList.toggle("hard", !this.softness);
  }

  #draw(from, to) {
    this.#show(this.mask.line(from, to, this.brush));
  }

  #remember(state) {
    if (!state) return;
    this.past.keep(state);
    this.#changed();
  }

  #goTo(state) {
    if (!state) return;
    this.mask.restore(state);
    this.#changed();
  }

  #changed() {
    this.changed = true;
    this.#show(this.mask.whole);
    this.#tell();
  }

  #tell() {
    if (!this.softly) return;
    this.showPast(this.past);
    this.softly.hidden = this.desk.value("soft_mask") || !(this.softness > 0 || this.mask?.soft);
  }

  /** Shows a part of the mask with the next frame, together with what else changes until then. */
  #show(box) {
    if (!box || !this.mask) return;
    if (!this.unseen) requestAnimationFrame(() => this.#paint());
    this.unseen = this.unseen ? united(this.unseen, box) : box;
  }

  #paint() {
    const { left, top, right, bottom } = this.unseen;
    this.unseen = null;
    if (right <= left || bottom <= top || !this.mask) return;
    const part = this.pen.createImageData(right - left, bottom - top);
    const words = new Uint32Array(part.data.buffer);
    const { now, width } = this.mask;
    let at = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) words[at++] = this.ink | (now[y * width + x] << 24);
    }
    this.pen.putImageData(part, left, top);
  }

  /** The accent colour as a pixel without opacity, in the order of bytes of all that browsers run on. */
  #ink() {
    this.pen.fillStyle = getComputedStyle(this.dialog).getPropertyValue("--accent");
    this.pen.fillRect(0, 0, 1, 1);
    const [red, green, blue] = this.pen.getImageData(0, 0, 1, 1).data;
    return red | (green << 8) | (blue << 16);
  }
}

/** A slider of 0..1 for the row of tools, with its value in words. */
function slider(label, changed) {
  const words = el("output");
  const made = range({ low: 0, high: 1, step: 0.01, "aria-label": label }, changed);
  const set = (share, text) => {
    made.set(share);
    made.element.setAttribute("aria-valuetext", text);
    words.textContent = text;
  };
  return { element: el("label", { class: "tool-slider" }, el("span", {}, label), words, made.element), set };
}
