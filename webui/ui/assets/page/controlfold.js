// What is rarely set of a control unit: which steps, which ControlNet, how its hint is drawn.

import { arrange, choices, el } from "./dom.js";
import { numberRow, shareRow } from "./slider.js";
import { say } from "./texts.js";

const AS_IT_IS = "none"; // The preprocessor of a picture that is a hint already.

export class ControlFold {
  #thresholdsOf = null;

  /** `parts` are the schemas of a unit's fields by name; `set` takes changes of some. */
  constructor(parts, shelf, set) {
    Object.assign(this, { parts, shelf, set });
    const { start, end, resize, resolution } = parts;
    this.begin = shareRow(say("control.start"), start.low, end.high, (value) => set({ start: value }));
    this.end = shareRow(say("control.end"), start.low, end.high, (value) => set({ end: value }));
    this.net = choiceRow(say("control.model"), (value) => set({ model: value || null }));
    this.resize = choiceRow(say("control.resize"), (value) => set({ resize: value }));
    choices(this.resize.select, resize.choices.map((way) => [way, say(`control.resize.${way}`)]));
    this.preprocessor = choiceRow(say("control.preprocessor"), (value) => set(withPreprocessor(value || null)));
    this.resolution = numberRow({ label: say("control.resolution"), low: resolution.low, high: resolution.high, step: 64, fine: 8, empty: say("control.auto") }, (value) => set({ resolution: value === null ? null : Math.round(value) }));
    this.thresholds = el("div", { class: "thresholds" });
    this.element = el("div", { class: "control-fold", hidden: true }, this.net.element, this.preprocessor.element, this.resolution.element, this.thresholds, this.resize.element, this.begin.element, this.end.element);
  }

  /** Shows a unit; `size` is the shorter side of the picture to be made, in pixels. */
  update(unit, size) {
    const drawer = this.shelf.drawnBy(unit);
    for (const [name, row] of [["model", this.net], ["start", this.begin], ["end", this.end]]) row.element.hidden = !this.shelf.uses(name) && unit[name] === this.parts[name].default;
    this.begin.set(unit.start);
    this.end.set(unit.end);
    this.resize.select.value = unit.resize;
    this.#drawNets(unit);
    this.#drawPreprocessors(unit);
    this.preprocessor.element.hidden = Boolean(unit.pose);
    this.resolution.element.hidden = drawer === AS_IT_IS;
    this.resolution.set(unit.resolution, size);
    this.#drawThresholds(unit, drawer);
  }

  #drawNets(unit) {
    const usual = this.shelf.usual(unit.kind);
    const known = this.shelf.nets.map((net) => net.name);
    const gone = unit.model && !known.includes(unit.model) ? [unit.model] : [];
    fill(this.net.select, [["", usual ? say("control.model.auto", { name: usual }) : say("control.auto")], ...[...known, ...gone].map((name) => [name, this.#named(name)])], unit.model ?? "");
    for (const option of this.net.select.options) {
      const net = this.shelf.nets.find(({ name }) => name === option.value);
      option.title = net?.problem ?? "";
      option.disabled = Boolean(net?.problem) && option.value !== unit.model;
    }
  }

  #named(name) {
    const net = this.shelf.nets.find((one) => one.name === name);
    if (!net) return say("control.model.gone", { name });
    return net.problem ? say("control.model.unfit", { name }) : name;
  }

  #drawPreprocessors(unit) {
    const named = (name) => (name === AS_IT_IS ? say("control.preprocessor.none") : this.shelf.missing(name) ? say("control.preprocessor.missing", { name }) : name);
    const [usual, ...others] = this.shelf.preprocessorsOf(unit.kind);
    if (!usual) return;
    fill(this.preprocessor.select, [["", named(usual)], ...others.map((name) => [name, named(name)])], unit.preprocessor === usual ? "" : unit.preprocessor ?? "");
  }

  #drawThresholds(unit, drawer) {
    const bounds = this.shelf.thresholds(drawer);
    if (this.#thresholdsOf?.drawer !== drawer) this.#thresholdsOf = { drawer, rows: bounds ? this.#thresholdRows(bounds) : [] };
    const { rows } = this.#thresholdsOf;
    arrange(this.thresholds, rows.map(({ row }) => row.element));
    for (const { name, row } of rows) row.set(unit[name], bounds[name]);
  }

  #thresholdRows(bounds) {
    const step = bounds.most > 100 ? 5 : 0.1;
    const row = (name) => numberRow({ label: say(`control.${name}`), low: 0, high: bounds.most, step, fine: step / 5, empty: String(bounds[name]) }, (value) => this.set({ [name]: value }));
    return ["low", "high"].map((name) => ({ name, row: row(name) }));
  }
}

/** A preprocessor, without the settings that were another one's. */
export function withPreprocessor(name) {
  const more = name === AS_IT_IS ? { resolution: null } : {};
  return { preprocessor: name, low: null, high: null, ...more };
}

function choiceRow(label, changed) {
  const select = el("select", { onchange: () => changed(select.value) });
  return { element: el("label", { class: "choice-row" }, el("span", {}, label), select), select };
}

/** Sets the options where they are others, so that an open list is not taken from under the pointer. */
export function fill(select, pairs, value) {
  const written = JSON.stringify(pairs);
  if (select.dataset.pairs !== written) choices(select, pairs);
  select.dataset.pairs = written;
  select.value = value;
}
