// A saved picture's recipe: in rows to be read, and onto the desk.

import { el, toast } from "./dom.js";
import { OF_A_MASK, OF_THE_START } from "./picturefield.js";
import { stackWords } from "./stackwords.js";
import { say, sayable } from "./texts.js";

const MANY = ["count", "batch"]; // How many were made says nothing of the one picture.
const SIZE = ["width", "height"];
const TEXTS = ["prompt", "negative_prompt"];
const PICTURES = ["init", "mask"];
const NAMED = 8; // Digits of a picture's id that tell it from the others there are.

/** A definition list of what the request says. */
export function recipeRows(request) {
  const without = idle(request);
  const rows = Object.entries(request)
    .filter(([name, value]) => !MANY.includes(name) && !SIZE.includes(name) && !without.includes(name) && !isEmpty(value))
    .map(([name, value]) => [name, fieldName(name), PICTURES.includes(name) ? String(value).slice(0, NAMED) : stackWords([value].flat())]);
  if (request.width && request.height) rows.splice(rows.findLastIndex(([name]) => TEXTS.includes(name)) + 1, 0, ["size", say("size"), `${request.width} × ${request.height}`]);
  return el("dl", { class: "recipe" }, ...rows.map(([name, label, words]) => el("div", { class: TEXTS.includes(name) ? "long" : null }, el("dt", {}, label), el("dd", {}, words))));
}

/** Puts the recipe onto the desk; says what had to be left out, and offers to take it back. */
export function useRecipe({ request, report }, desk, look) {
  const { values, left } = usable(request, desk, look);
  const changed = desk.change(values);
  const words = left.length ? say("history.used.without", { fields: left.map(fieldName).join(", ") }) : say(changed ? "history.used" : "history.used.same");
  toast([words, ...report].join(" "), changed ? { words: say("history.undo"), act: () => desk.undo() } : null);
}

/**
 * The values that the page has a place for and the recipe's model a use for, whole: what the file
 * does not name stands at its default. And the names of what is left out and would have mattered.
 */
export function usable(request, desk, look) {
  const model = look.models.find(({ name }) => name === (request.model ?? desk.defaults.model));
  const useless = new Set(model?.hidden ?? []);
  const values = { ...desk.defaults };
  const left = [];
  for (const [name, value] of Object.entries(request)) {
    if (name in desk.defaults && !useless.has(name)) values[name] = value;
    else if (!isEmpty(value) && !isOff(name, value) && JSON.stringify(value) !== JSON.stringify(desk.defaults[name])) left.push(name);
  }
  for (const name of useless) delete values[name];
  return { values, left };
}

/** Fields that say nothing, since there is no picture to start from, or all of it was made anew. */
function idle(request) {
  if (!request.init) return OF_THE_START;
  const margins = [request.outpaint].flat().some(Boolean);
  const whole = !request.mask && !margins ? OF_A_MASK : [];
  return [...whole, ...(margins ? [] : ["outpaint"]), ...(request.soft_mask ? [] : ["soft_mask"])];
}

/** CFG at 1 is none, as recipes of models without it say. */
function isOff(name, value) {
  return name === "cfg" && value === 1;
}

function fieldName(name) {
  return sayable(`field.${name}`) ? say(`field.${name}`) : name.replaceAll("_", " ");
}

function isEmpty(value) {
  return value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length);
}
