// The LoRAs on the shelf, by every name that a row of the stack may call them.

import { ask } from "./dom.js";
import { folded, locale, say } from "./texts.js";

export class LoraShelf extends EventTarget {
  #names = [];
  #texts = new Map();

  constructor() {
    super();
    this.cards = [];
    this.folder = "";
    this.known = false;
  }

  /** Asks for the LoRAs that are there now. Throws a `Problem`. */
  async refresh() {
    const { loras, folder } = await ask("loras");
    this.folder = folder;
    this.known = true;
    if (JSON.stringify(loras) === JSON.stringify(this.cards) && this.#names.length) return;
    this.cards = loras;
    this.#texts = new Map(loras.map((card) => [card, folded([card.name, card.alias ?? "", card.file, ...card.triggers].join("\n"))]));
    // As the engine looks for them (webui/library/loras.py): by path, by file, by the name of the training.
    this.#names = [named(loras, (card) => [card.file, card.path]), named(loras, (card) => [card.path.split("/").at(-1)]), named(loras, (card) => [card.alias])];
    this.dispatchEvent(new Event("cards"));
  }

  /** What a LoRA is found by: its names and trigger words. */
  text(card) {
    return this.#texts.get(card);
  }

  /** All LoRAs that a name stands for: one, none, or several that it cannot tell apart. */
  find(name) {
    for (const names of this.#names) if (names.has(name)) return names.get(name);
    return [];
  }
}

/** Whether it is made for the chosen model: "fits", "other" (family), "unknown"; "broken" never works. */
export function fitOf(card, model) {
  if (card.problem) return "broken";
  if (card.family === "unknown" || !model?.loras) return "unknown";
  return card.family === model.loras ? "fits" : "other";
}

/** Its family of models, in words. */
export function familyOf({ family }) {
  return family === "unknown" ? say("loras.family.unknown") : family;
}

/** How it changes a model, in words. */
export function kindOf({ kind }) {
  return say(`loras.kind.${kind}`);
}

/** The parts of a model that it changes, in words. */
export function partsOf({ parts }) {
  return parts.map((part) => say(`loras.part.${part}`)).join(", ");
}

/** The size of its file, in the language's own way. */
export function sizeOf({ size }) {
  const [unit, bytes] = size < 1e3 ? ["byte", 1] : size < 1e6 ? ["kilobyte", 1e3] : size < 1e9 ? ["megabyte", 1e6] : ["gigabyte", 1e9];
  return new Intl.NumberFormat(locale(), { style: "unit", unit, maximumSignificantDigits: 3 }).format(size / bytes);
}

/** The facts by which one is told from another, as a short line. */
export function factsOf(card) {
  return [familyOf(card), kindOf(card), sizeOf(card)].join(" · ");
}

function named(cards, namesOf) {
  const names = new Map();
  for (const card of cards) {
    for (const name of new Set(namesOf(card))) if (name) names.set(name, [...(names.get(name) ?? []), card]);
  }
  return names;
}
