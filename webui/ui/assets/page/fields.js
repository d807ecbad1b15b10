// A widget for each field of the request, made from its schema, and where it stands.

import { button, choices, el, icon } from "./dom.js";
import { placed } from "./fitting.js";
import { missingWords } from "./missing.js";
import { OF_THE_START } from "./picturefield.js";
import { range } from "./slider.js";
import { say, sayable } from "./texts.js";

const LONGEST_SLIDER = 200; // Past that many steps a finger cannot set it: a number box is used.
const AT_HAND = ["size", "steps", "cfg", "seed", "amount"];
const AMOUNT = ["count", "batch"];
const ELSEWHERE = new Set(["prompt", "negative_prompt", "loras", "controls", ...OF_THE_START]);
const IN_A_ROW = new Set(["width", "height", ...AMOUNT]);
const MODELS = ["model", "refiner", "vae"]; // What is on the shelf is told by the server.
const OWN = ["steps", "cfg", "sampler", "schedule", "guidance"]; // Left open, these are what the model needs.
const WITH_ANOTHER = new Set(["refiner_start"]); // Goes without saying where the refiner does.
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
  document.getElementById("more-fields").append(uselessFields(look));
  follow(desk, widgets);
  watchModel(look, widgets, desk, start);
  watchOwn(look, widgets, desk);
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
  if (steps > LONGEST_SLIDER) return numberWidget(field, set);
  return field.optional ? ownWidget(field, set) : sliderWidget(field, set);
}

/** The row of a field: its name with its help, the control, and room for advice. */
function row(field, control) {
  const help = el("span", { class: "help", id: `help-${field.name}`, role: "tooltip" }, say(`field.${field.name}.help`));
  const label = el("label", { for: `input-${field.name}`, id: `label-${field.name}` }, say(`field.${field.name}`));
  return el("div", { class: "field", id: `field-${field.name}` }, el("div", { class: "name" }, label, help), control, el("p", { class: "field-note", id: `note-${field.name}`, hidden: true }), el("p", { class: "advice", hidden: true }));
}

function common(field) {
  return { id: `input-${field.name}`, name: field.name, "aria-describedby": `help-${field.name} note-${field.name}` };
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
  /** What can be chosen, and behind it what cannot, under the reason. */
  const offer = (pairs, unable = [], why = "") => {
    const { value } = select;
    choices(select, [...open, ...pairs]);
    if (unable.length) select.append(el("optgroup", { label: why, disabled: true }, ...unable.map(([name, words]) => el("option", { value: name }, words))));
    set(value);
  };
  const set = (asked) => {
    const value = asked ?? "";
    // A name that is not on the list (a model that is gone) is shown, not replaced in silence.
    if (![...select.options].some((option) => option.value === value)) select.append(el("option", { value }, value));
    select.value = value;
  };
  const own = (value) => {
    if (!field.optional) return;
    open[0][1] = value ? say("own.choice", { value: nameOf(field, value) }) : say(`field.${field.name}.empty`);
    select.options[0].textContent = open[0][1];
  };
  offer(field.choices.map((choice) => [choice, nameOf(field, choice)]));
  return { row: row(field, el("div", { class: "control" }, select)), set, offer, own };
}

/** Names that are the same in every language, such as a sampler's, have no words of their own. */
function nameOf(field, choice) {
  const key = `choice.${field.name}.${choice}`;
  return sayable(key) ? say(key, field.figures?.[choice]) : choice;
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

/** A number that may be left open; the slider then stands, and the box says, what the model needs. */
function ownWidget(field, changed) {
  const put = (value) => { follow(value); changed(value); };
  const box = numberBox(field, put);
  const slider = range({ low: field.low, high: field.high, step: field.step, "aria-labelledby": `label-${field.name}` }, (value) => { box.value = String(value); put(value); });
  const words = say("own.back", { field: say(`field.${field.name}`) });
  const back = button(icon("undo"), () => { box.value = ""; put(null); box.focus(); }, { class: "icon", "aria-label": words, title: words });
  const tag = el("span", { class: "own", id: `own-${field.name}` }, say(`field.${field.name}.empty`));
  const made = row(field, el("div", { class: "control" }, slider.element));
  made.querySelector(".name").append(el("span", { class: "value" }, tag, back, box));
  box.setAttribute("aria-describedby", `help-${field.name} own-${field.name} note-${field.name}`);
  const follow = (value) => {
    const open = value === null || value === undefined;
    slider.set(open ? Number(box.placeholder) || field.low : value);
    made.classList.toggle("open", open);
    tag.hidden = !open;
    back.hidden = open;
  };
  // Arrows count from what the model needs, not from nothing.
  box.addEventListener("keydown", ({ key }) => { if (box.value === "" && ["ArrowUp", "ArrowDown"].includes(key)) box.value = box.placeholder; });
  const set = (value) => { box.value = shownNumber(value); follow(value); };
  const own = (value) => { box.placeholder = shownNumber(value); follow(numberIn(box, field)); };
  own(null);
  return { row: made, set, own };
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
    const vaes = look.model?.vaes ?? [];
    widgets.get("vae").offer(vaes.map((name) => [name, name]));
    for (const name of MODELS) widgets.get(name).set(desk.value(name));
    // What is set is shown, with the reason, so that it can be taken out.
    for (const [name, { row }] of widgets) row.hidden = look.hidden.has(name) && !isSet(desk, name);
    // One that is set is shown whatever the model is, so that it can be taken out.
    const refined = desk.value("refiner") !== null;
    if (refined) widgets.get("refiner").row.hidden = false;
    widgets.get("refiner_start").row.hidden = !refined;
    // Nothing to choose from is no choice.
    widgets.get("vae").row.hidden = !vaes.length && desk.value("vae") === null;
  };
  const drawSides = () => {
    const own = ownSize(desk, look, start);
    for (const side of ["width", "height"]) widgets.get(side).own(own?.[side]);
  };
  look.addEventListener("models", () => { draw(); drawSides(); });
  start.addEventListener("change", drawSides);
  desk.addEventListener("change", ({ detail }) => {
    if (detail.names.some((name) => MODELS.includes(name) || look.hidden.has(name))) draw();
    if (["model", "width", "height", "outpaint"].some((name) => detail.names.includes(name))) drawSides();
  });
}

/** Keeps what is said of fields that are left open, idle or of no use, and which choices there are. */
function watchOwn(look, widgets, desk) {
  const remark = (name, words) => {
    const line = widgets.get(name).row.querySelector(".field-note");
    line.hidden = !words;
    line.textContent = words;
  };
  look.addEventListener("seen", () => {
    const { own, idle, samplers, unable, advice, missing } = look.seen;
    const words = new Map(idle.map(({ field, kind }) => [field, say(`idle.${kind}`)]));
    if (missing.length) words.set("model", missingWords(missing));
    for (const name of look.hidden) if (isSet(desk, name)) words.set(name, reasonOf(look, name));
    const advised = advice.some(({ kind }) => kind === "few_steps");
    if (own?.made_for && desk.value("steps") === null && !advised) words.set("steps", say("own.made_for", { name: own.made_for }));
    for (const name of widgets.keys()) remark(name, words.get(name) ?? "");
    if (!own) return;
    for (const name of OWN) widgets.get(name).own(own[name]);
    offerAble(widgets, desk, "sampler", (name) => name in samplers, unable ? say(`unable.${unable}`) : "");
    const sampler = desk.value("sampler") ?? own.sampler;
    offerAble(widgets, desk, "schedule", (name) => !samplers[sampler] || samplers[sampler].includes(name), say("unable.schedule", { sampler }));
  });
}

function offerAble(widgets, desk, name, isAble, why) {
  const field = desk.schema(name);
  const pairs = field.choices.map((choice) => [choice, nameOf(field, choice)]);
  widgets.get(name).offer(pairs.filter(([choice]) => isAble(choice)), pairs.filter(([choice]) => !isAble(choice)), why);
}

function isSet(desk, name) {
  return JSON.stringify(desk.value(name) ?? null) !== JSON.stringify(desk.defaults[name]);
}

/** The fields that the chosen model has no use for, folded, each with the reason. */
function uselessFields(look) {
  const title = el("summary", {});
  const list = el("dl", {});
  const fold = el("details", { class: "useless", id: "useless" }, title, list);
  const draw = () => {
    const names = [...look.hidden].filter((name) => !WITH_ANOTHER.has(name));
    fold.hidden = !names.length;
    title.textContent = say("useless", { family: look.model?.family ?? "" });
    list.replaceChildren(...names.map((name) => el("div", {}, el("dt", {}, say(`field.${name}`)), el("dd", {}, reasonOf(look, name)))));
  };
  look.addEventListener("models", draw);
  look.desk.addEventListener("change", ({ detail }) => detail.names.includes("model") && draw());
  draw();
  return fold;
}

function reasonOf(look, name) {
  const key = `useless.${look.model.reasons?.[name]}`;
  return say(sayable(key) ? key : "useless.other");
}
