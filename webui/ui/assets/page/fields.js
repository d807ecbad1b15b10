// A widget for each field of the request, made from its schema, and where it stands.

import { button, choices, el, icon } from "./dom.js";
import { placed } from "./fitting.js";
import { OF_THE_START } from "./picturefield.js";
import { range } from "./slider.js";
import { say, sayable } from "./texts.js";

const LONGEST_SLIDER = 200; // Past that many steps a finger cannot set it: a number box is used.
const AT_HAND = ["size", "steps", "cfg", "seed", "amount"];
const AMOUNT = ["count", "batch"];
const ELSEWHERE = new Set(["prompt", "negative_prompt", "loras", "controls", ...OF_THE_START]);
const IN_A_ROW = new Set(["width", "height", ...AMOUNT]);
const MODELS = ["model", "refiner"]; // What is on the shelf is told by the server.
const SHAPES = [[1, 1], [4, 5], [3, 4], [2, 3], [9, 16], [5, 4], [4, 3], [3, 2], [16, 9]];

/** Builds the widgets into the side; `start` is the picture to start from (see brought.js). */
export function buildFields(desk, look, start) {
  const widgets = new Map();
  for (const field of desk.fields) {
    if (ELSEWHERE.has(field.name)) continue;
    widgets.set(field.name, makeWidget(desk, field));
  }
  const rows = new Map([...widgets].map(([name, widget]) => [name, widget.row]));
  rows.set("size", sizeRow(desk, look, start, rows));
  rows.set("amount", el("div", { class: "two" }, ...AMOUNT.map((name) => rows.get(name))));
  rows.get("seed").querySelector(".control").append(...seedDeeds(desk));
  document.getElementById("model-fields").append(rows.get("model"));
  rows.delete("model");
  for (const name of AT_HAND) document.getElementById("fields").append(rows.get(name));
  for (const [name, row] of rows) {
    if (!AT_HAND.includes(name) && !IN_A_ROW.has(name)) document.getElementById("more-fields").append(row);
  }
  follow(desk, widgets);
  watchModel(look, widgets, desk, start);
}

/** Keeps widgets, by name, as the recipe is. */
export function follow(desk, widgets) {
  const update = (names, from) => {
    for (const name of names) if (name !== from) widgets.get(name)?.set(desk.value(name));
  };
  desk.addEventListener("change", ({ detail }) => update(detail.names, detail.from));
  update(widgets.keys(), null);
}

/** The widget of a field: its `row`, and `set`, which shows a value. */
export function makeWidget(desk, field) {
  const set = (value) => desk.change({ [field.name]: value }, field.name);
  if (field.kind === "boolean") return switchWidget(field, set);
  if (AMOUNT.includes(field.name)) return numberWidget(field, set);
  if (MODELS.includes(field.name) || field.choices.length) return selectWidget(field, set);
  if (field.kind !== "integer" && field.kind !== "number") throw new TypeError(`No widget is known for the field ${field.name} (${field.kind}).`);
  const steps = (field.high - field.low) / field.step;
  if (field.group === "size" && field.optional) return sideWidget(field, set);
  return field.optional || steps > LONGEST_SLIDER ? numberWidget(field, set) : sliderWidget(field, set);
}

/** The row of a field: its name with its help, the control, and room for advice. */
function row(field, control) {
  const help = el("span", { class: "help", id: `help-${field.name}`, role: "tooltip" }, say(`field.${field.name}.help`));
  const label = el("label", { for: `input-${field.name}`, id: `label-${field.name}` }, say(`field.${field.name}`));
  return el("div", { class: "field", id: `field-${field.name}` }, el("div", { class: "name" }, label, help), control, el("p", { class: "advice", hidden: true }));
}

function common(field) {
  return { id: `input-${field.name}`, name: field.name, "aria-describedby": `help-${field.name}` };
}

function switchWidget(field, changed) {
  const box = el("input", { ...common(field), type: "checkbox", onchange: () => changed(box.checked) });
  const made = row(field, null);
  made.querySelector(".name").append(box);
  return { row: made, set: (value) => { box.checked = value === true; } };
}

function selectWidget(field, changed) {
  const select = el("select", { ...common(field), onchange: () => changed(select.value === "" && field.optional ? null : select.value) });
  const open = field.optional ? [["", say(`field.${field.name}.empty`)]] : [];
  const offer = (pairs) => choices(select, [...open, ...pairs]);
  offer(field.choices.map((choice) => [choice, nameOf(field, choice)]));
  const set = (asked) => {
    const value = asked ?? "";
    // A name that is not on the list (a model that is gone) is shown, not replaced in silence.
    if (![...select.options].some((option) => option.value === value)) select.append(el("option", { value }, value));
    select.value = value;
  };
  return { row: row(field, el("div", { class: "control" }, select)), set, offer };
}

/** Names that are the same in every language, such as a sampler's, have no words of their own. */
function nameOf(field, choice) {
  const key = `choice.${field.name}.${choice}`;
  return sayable(key) ? say(key) : choice;
}

function numberBox(field, changed) {
  const box = el("input", {
    ...common(field), type: "number", inputmode: field.kind === "integer" ? "numeric" : "decimal",
    step: String(field.step), placeholder: field.optional ? say(`field.${field.name}.empty`) : "", autocomplete: "off",
    oninput: () => changed(numberIn(box, field)),
  });
  return box;
}

/** What a number box holds; what cannot be read goes to the server as it is named, which says so. */
function numberIn(box, field) {
  if (box.validity.badInput) return say("field.unreadable");
  if (box.value === "") return field.optional ? null : say("field.unset");
  return Number(box.value);
}

function shownNumber(value) {
  return value === null || value === undefined ? "" : String(value);
}

function numberWidget(field, changed) {
  const box = numberBox(field, changed);
  return { row: row(field, el("div", { class: "control" }, box)), set: (value) => { box.value = shownNumber(value); }, box };
}

function sliderWidget(field, changed) {
  const box = numberBox(field, (value) => { slider.set(value); changed(value); });
  const slider = range({ low: field.low, high: field.high, step: field.step, "aria-labelledby": `label-${field.name}` }, (value) => { box.value = String(value); changed(value); });
  const made = row(field, el("div", { class: "control" }, slider.element));
  made.querySelector(".name").append(box);
  const set = (value) => { box.value = shownNumber(value); slider.set(value); };
  return { row: made, set };
}

/** A side of the picture: a number box that may be empty, and a slider that then stands at the model's own. */
function sideWidget(field, changed) {
  const made = numberWidget(field, (value) => { follow(value); changed(value); });
  const slider = range({ low: field.low, high: field.high, step: field.step, "aria-labelledby": `label-${field.name}` }, (value) => { made.box.value = String(value); changed(value); });
  const follow = (value) => slider.set(value ?? (Number(made.box.placeholder) || field.low));
  made.row.querySelector(".control").after(slider.element);
  const set = (value) => { made.set(value); follow(value); };
  const own = (side) => { made.box.placeholder = side ? String(side) : say(`field.${field.name}.empty`); follow(numberIn(made.box, field)); };
  return { row: made.row, set, own };
}

function sizeRow(desk, look, start, rows) {
  const shapes = el("div", { class: "shapes", role: "group", "aria-label": say("size.shapes") });
  const swap = button(icon("swap"), () => desk.change(turned(desk, ownSize(desk, look, start))), { class: "icon", "aria-label": say("size.swap"), title: say("size.swap") });
  const fields = el("div", { class: "pair" }, rows.get("width"), swap, rows.get("height"));
  const draw = () => {
    const trained = look.model?.width;
    const own = shapeButton(say("size.own"), null, desk.value("width") === null && desk.value("height") === null, () => desk.change({ width: null, height: null }));
    shapes.replaceChildren(own, ...SHAPES.map(([across, down]) => {
      const size = trained ? fitted(across / down, look.model.width * look.model.height) : null;
      const pressed = Boolean(size) && desk.value("width") === size.width && desk.value("height") === size.height;
      return shapeButton(`${across}:${down}`, [across, down], pressed, () => size && desk.change(size));
    }));
  };
  desk.addEventListener("change", draw);
  look.addEventListener("models", draw);
  draw();
  return el("fieldset", { class: "size" }, el("legend", {}, say("size")), shapes, fields, el("p", { class: "advice", id: "advice-size", hidden: true }));
}

function shapeButton(words, shape, pressed, onclick) {
  const outline = el("i", { "aria-hidden": "true" });
  if (shape) outline.style.aspectRatio = shape.join("/");
  outline.className = !shape ? "own" : shape[0] > shape[1] ? "wide" : "tall";
  return el("button", { type: "button", class: "shape", "aria-pressed": String(pressed), title: words, onclick }, outline, el("span", {}, words));
}

/** The size of that aspect ratio with about that many pixels, in steps of 8. */
export function fitted(aspect, area) {
  const step = (side) => Math.max(64, Math.min(2048, Math.round(side / 8) * 8));
  return { width: step(Math.sqrt(area * aspect)), height: step(Math.sqrt(area / aspect)) };
}

/** The size where it is left open: the model's own, or that of the picture to start from. */
function ownSize(desk, look, start) {
  return start.size ? placed(desk.request, start.size, desk.schema("width").high)?.whole : look.model;
}

function turned(desk, own) {
  return { width: desk.value("height") ?? own?.height ?? null, height: desk.value("width") ?? own?.width ?? null };
}

function seedDeeds(desk) {
  const dice = button(icon("dice"), () => desk.change({ seed: null }), { class: "icon", id: "dice", "aria-label": say("seed.random"), title: say("seed.random") });
  const last = button(icon("again"), () => desk.dispatchEvent(new Event("reuse-seed")), { class: "icon", id: "reuse-seed", "aria-label": say("seed.last"), title: say("seed.last") });
  return [dice, last];
}

/** Keeps the list of models as the shelf has it, and hides what the chosen one has no use for. */
function watchModel(look, widgets, desk, start) {
  const named = (model) => [model.name, model.problem ? `${model.name} (${say("model.broken")})` : model.name];
  const draw = () => {
    const refiners = look.models.filter(({ name, family }) => look.model?.refiners?.includes(family) && name !== look.model.name);
    widgets.get("model").offer(look.models.map(named));
    widgets.get("refiner").offer(refiners.map(named));
    for (const name of MODELS) widgets.get(name).set(desk.value(name));
    for (const [name, { row }] of widgets) row.hidden = look.hidden.has(name);
    // One that is set is shown whatever the model is, so that it can be taken out.
    const refined = desk.value("refiner") !== null;
    if (refined) widgets.get("refiner").row.hidden = false;
    widgets.get("refiner_start").row.hidden = !refined;
  };
  const drawSides = () => {
    const own = ownSize(desk, look, start);
    for (const side of ["width", "height"]) widgets.get(side).own(own?.[side]);
  };
  look.addEventListener("models", () => { draw(); drawSides(); });
  start.addEventListener("change", drawSides);
  desk.addEventListener("change", ({ detail }) => {
    if (MODELS.some((name) => detail.names.includes(name))) draw();
    if (["model", "width", "height", "outpaint"].some((name) => detail.names.includes(name))) drawSides();
  });
}
