// What is rarely set of a control unit: which steps, which ControlNet, how its hint is drawn.

import { choices, el } from "./dom.js";
import { numberRow } from "./slider.js";
import { say } from "./texts.js";

const AS_IT_IS = "none"; // The preprocessor of a picture that is a hint already.

export class ControlFold {
  #thresholdsOf = null;

  /** `parts` are the schemas of a unit's fields by name; `set` takes changes of some. */
  constructor(parts, shelf, set) {
    Object.assign(this, { parts, shelf, set });
    const { start, end, resize, resolution } = parts;
    const share = { low: 100 * start.low, high: 100 * end.high, step: 5, fine: 1 };
    this.begin = numberRow({ ...share, label: say("control.start") }, (value) => set({ start: value / 100 }));
    this.end = numberRow({ ...share, label: say("control.end") }, (value) => set({ end: value / 100 }));
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
    this.begin.set(percent(unit.start));
    this.end.set(percent(unit.end));
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
    const elements = rows.map(({ row }) => row.element);
    if (elements.some((element, at) => this.thresholds.children[at] !== element) || this.thresholds.children.length !== elements.length) this.thresholds.replaceChildren(...elements);
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

function percent(share) {
  return Number((100 * share).toFixed(2));
}
