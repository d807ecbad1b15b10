// The card of a LoRA: what its header says, its trigger words to be clicked, its hashes.

import { ask, button, el, toast } from "./dom.js";
import { familyOf, fitOf, kindOf, partsOf, sizeOf } from "./lorashelf.js";
import { Sheet } from "./sheet.js";
import { folded, say } from "./texts.js";

export class LoraCard {
  /** Further elements of a card, by the LoRA's name. */
  extras = () => [];

  constructor(desk, look, shelf) {
    Object.assign(this, { desk, look, shelf });
    this.sheet = new Sheet("lora-card", "");
  }

  /** Shows the LoRA of that name, or says that there is none. */
  open(name) {
    const [card, ...others] = this.shelf.find(name);
    if (!card || others.length) {
      toast(say(card ? "loras.several" : "loras.missing", { name, n: others.length + 1 }));
      return;
    }
    this.sheet.title.textContent = card.name;
    const facts = this.#facts(card);
    this.sheet.body.replaceChildren(this.#fit(card), this.#triggers(card), facts, ...this.extras(name));
    this.sheet.open();
    if (!card.problem) this.#hash(card, facts);
  }

  #fit(card) {
    const fit = fitOf(card, this.look.model);
    const values = { family: card.family, own: this.look.model?.loras ?? "" };
    const words = { fits: () => say("loras.fits", values), unknown: () => say("loras.unknown"), other: () => say("loras.other", values), broken: () => card.problem };
    return el("p", { class: `fit ${fit}` }, words[fit]());
  }

  #triggers(card) {
    if (!card.triggers.length) return "";
    const chips = card.triggers.map((word) => button(word, () => this.#insert(word, chips), { class: "chip" }));
    const box = el("section", {}, el("h3", {}, say("loras.triggers")), el("div", { class: "chips" }, ...chips));
    this.#mark(chips);
    return box;
  }

  /** Puts the word at the end of the prompt, where it is not there yet. */
  #insert(word, chips) {
    const prompt = this.desk.value("prompt");
    if (!includes(prompt, word)) {
      const before = prompt.replace(/[\s,]+$/, "");
      this.desk.change({ prompt: before ? `${before}, ${plainly(word)}` : plainly(word) });
    }
    this.#mark(chips);
  }

  #mark(chips) {
    for (const chip of chips) {
      const there = includes(this.desk.value("prompt"), chip.textContent);
      chip.classList.toggle("there", there);
      chip.title = say(there ? "loras.trigger.there" : "loras.trigger");
    }
  }

  #facts(card) {
    const facts = [
      ["family", familyOf(card)], ["kind", kindOf(card)], ["rank", card.rank], ["alpha", card.alpha], ["parts", partsOf(card)],
      ["trained", card.trained_on], ["alias", card.alias], ["size", sizeOf(card)], ["file", card.file],
    ];
    return el("dl", {}, ...facts.filter(([, value]) => value !== null && value !== "").flatMap(([key, value]) => fact(say(`loras.fact.${key}`), value)));
  }

  /** The whole file is read for them: they are asked for when somebody looks. */
  async #hash(card, facts) {
    const [two, three] = [el("code", {}, say("loras.hashing")), el("code", {})];
    facts.append(...fact("AutoV2", two), ...fact("AutoV3", three));
    const found = await this.sheet.attempt(() => ask(`loras/hashes?name=${encodeURIComponent(card.path)}`));
    two.textContent = found?.auto_v2 ?? "";
    three.textContent = found?.auto_v3 ?? "";
  }
}

function fact(name, value) {
  return [el("dt", {}, name), el("dd", {}, typeof value === "number" ? String(value) : value)];
}

/** The words as a prompt means them: a bracket in them is none that weighs. */
function plainly(word) {
  return word.replace(/[()[\]\\]/g, "\\$&");
}

function includes(prompt, word) {
  return prompt.split(",").some((part) => folded(part) === folded(plainly(word)));
}
