// The pose editor: people of joints on a canvas of the picture's size, to be pulled into shape.

import { button, el, icon } from "./dom.js";
import { Past } from "./past.js";
import { JOINTS, MAX_PEOPLE, boxOf, carried, fitted, inSight, kept, mirrored, sizeOf, toggled } from "./posebody.js";
import { PoseCanvas } from "./posecanvas.js";
import { readPose, writePose } from "./posefile.js";
import { Grab } from "./posegrab.js";
import { pressed } from "./posekeys.js";
import { STOCK, placed, standing, stockPerson } from "./posestock.js";
import { stockRow } from "./posestrip.js";
import { range } from "./slider.js";
import { say } from "./texts.js";
import { Workbench } from "./workbench.js";

/**
 * Lets a pose be drawn for a picture of that size; without one it begins with somebody who stands.
 * `backdrop` is the address of a picture to draw over. Gives {width, height, people}, or null when it
 * was given up.
 */
export function editPose({ pose = null, width, height, backdrop = null }) {
  return new Promise((resolve) => new PoseEditor({ pose, width, height, backdrop }, resolve).open());
}

class PoseEditor extends Workbench {
  #past = new Past();
  #result = null;
  #warned = false;

  constructor({ pose, width, height, backdrop }, resolve) {
    const canvas = new PoseCanvas();
    super("pose", say("pose.title"), canvas.element);
    this.canvas = canvas;
    this.canvas.setSize(width, height);
    const people = pose ? fitted(pose.people, pose, { width, height }) : [standing({ width, height })];
    this.state = { people, chosen: 0 };
    this.first = this.state;
    this.active = null;
    this.keepsLengths = true;
    this.#addTools(backdrop);
    this.grab = new Grab(this);
    this.#listen(resolve);
    this.size = { width, height };
  }

  open() {
    super.open();
    this.setSize(this.size.width, this.size.height);
  }

  get person() {
    return this.state.people[this.state.chosen];
  }

  hit(point, reach) {
    return this.canvas.hit(this.state.people, this.state.chosen, point, reach);
  }

  /** Rings what the mouse is over. */
  hover(found) {
    if (found?.kind === "joint") this.canvas.point(this.state.people[found.person], found.joint);
    else this.canvas.point(this.person, this.active);
  }

  /** Chooses the person, and the joint, that something was hit of; nothing leaves the person chosen. */
  choose(found) {
    this.active = found?.kind === "joint" ? found.joint : null;
    if (found) this.state = { ...this.state, chosen: found.person };
    this.show();
    if (this.active === null) this.stage.focus({ preventScroll: true });
    else this.canvas.joint(this.state.chosen, this.active).focus({ preventScroll: true });
  }

  /** Shows a person otherwise; it is remembered once it is settled. */
  put(at, person) {
    this.state = { people: this.state.people.with(at, person), chosen: at };
    this.show();
  }

  /** A change is over; `before` is the state that one can come back to. */
  settle(before) {
    if (this.state.people === before.people) return;
    this.#past.keep(before);
    this.showPast(this.#past);
  }

  /** The state as it was; what can be undone stays as it is. */
  restore(state) {
    this.state = state;
    this.show();
  }

  /** One change, remembered. */
  change(people, chosen = this.state.chosen) {
    const before = this.state;
    this.state = { people, chosen };
    if (people.length !== before.people.length) this.active = null;
    this.settle(before);
    this.show();
  }

  changePerson(person) {
    this.change(this.state.people.with(this.state.chosen, person));
  }

  toggle(at, joint) {
    const person = toggled(this.state.people[at], joint);
    this.change(this.state.people.with(at, person), at);
    this.tell(say(person[joint][2] ? "pose.shown_now" : "pose.hidden_now", { joint: say(`pose.joint.${JOINTS[joint]}`) }));
  }

  /** Chooses the next person, or the one before. */
  walk(by) {
    const { people, chosen } = this.state;
    this.state = { people, chosen: (chosen + by + people.length) % people.length };
    this.active = null;
    this.show();
    this.canvas.frame.focus();
    if (people.length > 1) this.tell(say("pose.of", { number: this.state.chosen + 1, count: people.length }));
  }

  remove() {
    const { people, chosen } = this.state;
    if (people.length === 1) return this.tell(say("pose.last"));
    this.change(people.toSpliced(chosen, 1), Math.max(0, chosen - 1));
  }

  giveUp() {
    this.grab.giveUp();
  }

  undo() {
    this.#goTo(this.#past.undo(this.state));
  }

  redo() {
    this.#goTo(this.#past.redo(this.state));
  }

  tell(words) {
    this.told.textContent = words;
  }

  show() {
    const { people, chosen } = this.state;
    this.canvas.show(people, chosen, this.scale);
    this.canvas.point(this.person, this.active);
    this.addTool.disabled = this.copyTool.disabled = people.length === MAX_PEOPLE;
    this.removeTool.disabled = people.length === 1;
    this.hideTool.disabled = this.active === null;
    this.hideTool.setAttribute("aria-pressed", String(this.active !== null && !this.person[this.active][2]));
  }

  #goTo(state) {
    if (!state) return;
    this.active = null;
    this.restore(state);
    this.showPast(this.#past);
  }

  #addTools(backdrop) {
    this.addCommonTools();
    this.showPast(this.#past);
    const tool = (name, key, deed, more = {}) => button(icon(name), deed, { class: "icon", "aria-label": say(key), title: say(key), ...more });
    this.addTool = tool("person", "pose.add", () => this.#add());
    this.copyTool = tool("copy", "pose.copy", () => this.#add(carried(this.person, this.size.width / 12, 0)));
    this.removeTool = tool("trash", "pose.remove", () => this.remove());
    this.hideTool = tool("closed", "pose.hide", () => this.toggle(this.state.chosen, this.active));
    const lengths = tool("bone", "pose.lengths", () => {
      this.keepsLengths = !this.keepsLengths;
      lengths.setAttribute("aria-pressed", String(this.keepsLengths));
    }, { "aria-pressed": "true" });
    this.tools.append(
      el("span", { class: "tool-group" }, this.addTool, this.copyTool, this.removeTool),
      el("span", { class: "tool-group" }, tool("mirror", "pose.mirror", () => this.changePerson(mirrored(this.person))), this.hideTool, lengths, tool("again", "pose.reset", () => this.change(this.first.people, 0))),
    );
    if (backdrop) this.tools.append(this.#backdropTool(backdrop));
    this.told = el("p", { class: "pose-told", role: "status" });
    const strip = stockRow(STOCK, (pose) => this.#take(pose));
    const desk = el("div", { class: "pose-desk" });
    this.stage.before(desk);
    desk.append(this.stage, strip);
    const file = el("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: () => { this.#read(file.files[0]); file.value = ""; } });
    this.footer.append(
      file,
      this.told,
      button(say("pose.read"), () => file.click(), { class: "link" }),
      button(say("pose.write"), () => this.attempt(() => writePose(this.pose)), { class: "link" }),
      button(say("bench.cancel"), () => this.close()),
      button(say("bench.done"), () => { this.#result = this.pose; this.close(); }, { class: "primary" }),
    );
  }

  #backdropTool(address) {
    const { backdrop } = this.canvas;
    backdrop.src = address;
    backdrop.hidden = false;
    const slider = range({ low: 0, high: 1, step: 0.05, "aria-label": say("pose.backdrop"), title: say("pose.backdrop") }, (value) => { backdrop.style.opacity = value; });
    slider.set(0.5);
    backdrop.style.opacity = 0.5;
    return el("span", { class: "tool-group backdrop-tool" }, icon("picture"), slider.element);
  }

  /** The pose as a request has it. */
  get pose() {
    return { width: this.size.width, height: this.size.height, people: this.state.people.map((person) => kept(person, this.size)) };
  }

  #listen(resolve) {
    this.dialog.addEventListener("scaled", () => this.show());
    this.dialog.addEventListener("keydown", (event) => pressed(this, event), { capture: true });
    this.canvas.svg.addEventListener("focusin", (event) => {
      const found = this.canvas.jointOf(event.target);
      this.active = found?.joint ?? null;
      this.show();
    });
    this.dialog.addEventListener("cancel", (event) => {
      // Esc once too often must not throw away what was drawn.
      if (!this.#past.canUndo || this.#warned) return;
      this.#warned = true;
      event.preventDefault();
      this.tell(say("pose.esc"));
    });
    this.dialog.addEventListener("close", () => { this.dialog.remove(); resolve(this.#result); });
    this.#listenToDrops();
  }

  #listenToDrops() {
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      this.dialog.addEventListener(kind, (event) => {
        // Beside this sheet a file that is dropped is a recipe.
        event.stopPropagation();
        event.preventDefault();
        this.dialog.classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files.length) this.#read(event.dataTransfer.files[0]);
      });
    }
  }

  async #read(file) {
    const read = await this.attempt(() => readPose(file, this.size));
    if (!read) return;
    this.change(read.people, 0);
    this.tell(read.report.join(" "));
  }

  /** Somebody more, as large as who is chosen, where there is room. */
  #add(person = null) {
    const { people } = this.state;
    const middles = people.map((one) => boxOf(one)).map(({ x, width }) => x + width / 2);
    const room = (x) => Math.min(...middles.map((middle) => Math.abs(middle - x)));
    const [x] = [1, 2, 3, 4, 5, 6, 7].map((eighth) => (eighth * this.size.width) / 8).sort((a, b) => room(b) - room(a));
    const box = boxOf(this.person);
    const added = person ?? placed(stockPerson(STOCK[0]), { x, y: box.y + box.height / 2, size: sizeOf(this.person) });
    this.change([...people, inSight(added, this.size)], people.length);
  }

  /** The chosen person takes a stock pose, as large as it is and on the ground it stands on. */
  #take(pose) {
    const before = boxOf(this.person);
    const person = placed(stockPerson(pose), { x: before.x + before.width / 2, y: 0, size: sizeOf(this.person) });
    const { y, height } = boxOf(person);
    this.changePerson(inSight(carried(person, 0, before.y + before.height - y - height), this.size));
  }
}
