// Poses and pictures that steer the composition: a stack of control units.

import { ControlShelf } from "./controlshelf.js";
import { ControlUnit, kindName } from "./controlunit.js";
import { arrange, button, el, icon, toast } from "./dom.js";
import { placed } from "./fitting.js";
import { panel } from "./panel.js";
import { bringIn, fileChooser } from "./picturefield.js";
import { editPose } from "./poseeditor.js";
import { say } from "./texts.js";

const SIDE = 512; // Pixels, where neither the request nor the model says more.

export class ControlStack {
  #asked = [];
  #problem = null;
  #hinted = new Set();
  #wasBusy = false;
  #replacing = null;
  #wanted = {};

  /** Fills `root`, a section of page.html; `viewer` has the picture that poses are drawn over, `init` is the one to start from. */
  constructor(root, { desk, look, job, viewer, init }) {
    Object.assign(this, { root, desk, look, job, viewer, init });
    this.units = [];
    this.shelf = new ControlShelf();
    this.parts = Object.fromEntries(desk.fields.find(({ name }) => name === "controls").parts.map((part) => [part.name, part]));
    this.chooser = fileChooser((file) => this.addPicture("", file, this.#wanted));
    this.addPose = this.#deed("controls.pose", () => this.#newPose({}));
    this.addFile = this.#deed("controls.picture", () => this.#choosePicture({}));
    this.list = panel(root, say("controls"), [this.addPose, this.addFile]);
    this.nothing = el("p", { class: "control-none", hidden: true });
    root.append(this.nothing, this.chooser);
    this.#listen();
    this.#draw();
    this.#remember();
    this.refresh();
  }

  /** Asks for the ControlNets that are on the shelf now. */
  refresh() {
    return this.shelf.refresh(this.desk.value("model"));
  }

  /** Adds a picture, or has it take the place of a unit's; `source` is a path below `uploads`, with a body for a file; `values` are the new unit's. */
  async addPicture(source, body = undefined, values = {}) {
    const replaced = this.units.includes(this.#replacing) ? this.#replacing : null;
    this.#replacing = null;
    try {
      const { id } = await bringIn(source, body);
      if (replaced) return this.set(replaced, { picture: id });
      this.#add({ picture: id, kind: this.shelf.kindOfPicture, ...values });
      toast(say("control.added"), { words: say("diff.undo"), act: () => this.#drop(id) });
    } catch (problem) {
      toast(problem.message);
    }
  }

  /** Has a net of the shelf steer: in a unit of its kind, else in a new one, whose pose or picture is asked for. */
  use({ name, kinds }) {
    const unit = this.units.find(({ value }) => kinds.includes(value.kind));
    if (unit) {
      this.set(unit, { model: name });
      return unit.focus();
    }
    if (kinds.includes("pose")) return this.#newPose({ model: name });
    return this.#choosePicture({ model: name, ...(kinds.length && { kind: kinds[0] }) });
  }

  set(unit, values) {
    const at = this.units.indexOf(unit);
    this.#change(this.#values.map((value, index) => (index === at ? { ...value, ...values } : value)));
  }

  remove(unit) {
    const at = this.units.indexOf(unit);
    const value = this.#values[at];
    this.units.splice(at, 1);
    this.#change(this.#values.toSpliced(at, 1));
    (this.units[Math.min(at, this.units.length - 1)] ?? this.addPose).focus();
    // Only the unit comes back: what was changed meanwhile stays.
    const act = () => {
      this.units.splice(at, 0, unit);
      this.#change(this.#values.toSpliced(at, 0, value));
      unit.focus();
    };
    toast(say("control.removed", { kind: kindName(value.kind) }), { words: say("diff.undo"), act });
  }

  async edit(unit) {
    const pose = await editPose({ pose: unit.value.pose, ...this.#size, backdrop: this.viewer.picture?.url ?? null });
    if (pose && this.units.includes(unit)) this.set(unit, { pose });
    unit.source.focus();
  }

  /** Lets another picture be chosen for a unit. */
  replace(unit) {
    this.#replacing = unit;
    this.chooser.click();
  }

  /** Shows a hint as large as the window. */
  enlarge(hint) {
    const light = this.viewer.root.querySelector(".light");
    light.firstElementChild.src = hint;
    light.firstElementChild.alt = say("control.hint");
    light.showModal();
  }

  /** Whether a part of a picture is painted anew. */
  get masked() {
    const { init, mask, outpaint } = this.desk.request;
    return Boolean(init && (mask || outpaint?.some(Boolean)));
  }

  get #values() {
    return this.desk.value("controls");
  }

  #deed(key, act) {
    const deed = button(icon("plus"), act, { class: "link add" });
    deed.append(say(key));
    return deed;
  }

  #choosePicture(values) {
    this.#replacing = null;
    this.#wanted = values;
    this.chooser.click();
  }

  async #newPose(values) {
    const pose = await editPose({ ...this.#size, backdrop: this.viewer.picture?.url ?? null });
    if (pose) this.#add({ pose, kind: "pose", ...values });
    else this.addPose.focus();
  }

  /** Size in pixels of the picture to be made. */
  get #size() {
    const { desk, look, init } = this;
    const longest = desk.fields.find(({ name }) => name === "width").high;
    const laid = init.size && placed(desk.request, init.size, longest)?.whole;
    return laid ?? { width: desk.value("width") ?? look.model?.width ?? SIDE, height: desk.value("height") ?? look.model?.height ?? SIDE };
  }

  #add(values) {
    const defaults = Object.fromEntries(Object.values(this.parts).map((part) => [part.name, part.default]));
    this.#change([...this.#values, { ...defaults, ...values }]);
    this.units.at(-1).focus();
  }

  /** Takes back a picture that was added. */
  #drop(picture) {
    const at = this.#values.findLastIndex((value) => value.picture === picture);
    if (at < 0) return;
    this.units.splice(at, 1);
    this.#change(this.#values.toSpliced(at, 1));
  }

  #change(controls) {
    this.desk.change({ controls }, "controls");
  }

  #listen() {
    const draw = () => this.#draw();
    this.desk.addEventListener("change", ({ detail: { names } }) => {
      if (names.includes("model")) this.refresh();
      if (["controls", "model", "width", "height", "init", "mask", "outpaint"].some((name) => names.includes(name))) draw();
    });
    this.shelf.addEventListener("change", draw);
    this.look.addEventListener("models", draw);
    this.look.addEventListener("seen", () => {
      if (this.job.busy) return;
      // A mistake is forgotten as soon as it is mended.
      this.#problem = this.#about(this.look.seen.problem ?? this.job.problem, this.units);
      draw();
    });
    this.job.addEventListener("view", () => this.#follow());
    this.root.addEventListener("paste", (event) => this.#paste(event));
  }

  #follow() {
    const { view, busy } = this.job;
    if (busy && !this.#wasBusy) this.#remember();
    this.#wasBusy = busy;
    for (const [place, hint] of Object.entries(view.hints)) {
      const asked = this.#asked[place];
      const name = `${view.job} ${place}`;
      if (!asked || this.#hinted.has(name)) continue;
      this.#hinted.add(name);
      asked.unit.take(hint, asked.key);
    }
    if (!busy && !view.problem) return;
    this.#problem = this.#about(view.problem, this.#asked.map(({ unit }) => unit));
    this.#draw();
  }

  /** Which units the job was asked with: they may have moved when its hints and mistakes come. */
  #remember() {
    this.#asked = this.units.map((unit) => ({ unit, key: unit.sourceKey }));
  }

  #about(problem, units) {
    const [field, place] = problem?.field?.split(".") ?? [];
    const unit = field === "controls" ? units[Number(place)] : undefined;
    return unit ? { unit, message: problem.message } : null;
  }

  #draw() {
    const values = this.#values;
    this.units = values.map((value, index) => {
      const unit = this.units[index];
      // What is another thing altogether, such as a preset's, is not opened and muted as this one was.
      return unit && (!unit.value || Boolean(unit.value.pose) === Boolean(value.pose)) ? unit : new ControlUnit(this.parts, this.shelf, this);
    });
    arrange(this.list, this.units.map(({ element }) => element));
    const size = Math.min(this.#size.width, this.#size.height);
    for (const [index, unit] of this.units.entries()) unit.update({ value: values[index], index, size, problem: this.#problem?.unit === unit ? this.#problem.message : "" });
    this.#drawNothing(values);
    // Units that are there can be removed, even where the model has no use for any.
    this.root.hidden = this.look.hidden.has("controls") && !values.length;
  }

  /** What there is to add, and why not more. */
  #drawNothing(values) {
    const { own, known, any, place } = this.shelf;
    const model = this.desk.value("model");
    const acting = values.filter(({ weight }) => weight).length;
    this.addPose.hidden = Boolean(own);
    this.addFile.disabled = Boolean(own) && acting > 0;
    this.nothing.hidden = own ? acting === 1 : !known || any;
    this.nothing.textContent = own ? say(acting ? "controls.own.more" : "controls.own", { model, kinds: own.map(kindName).join(", ") }) : say("controls.none", { model, place });
  }

  #paste(event) {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (!file || event.clipboardData.getData("text/plain")) return;
    event.preventDefault();
    // Elsewhere a picture that is pasted is read for its recipe.
    event.stopPropagation();
    this.addPicture("", file);
  }
}
