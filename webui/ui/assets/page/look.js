// Looks over the recipe after each edit: mistakes, advice, tokens, what the model has a use for.

import { ask, button, el, settled } from "./dom.js";
import { say } from "./texts.js";

const PAUSE = 250;

export class Look extends EventTarget {
  constructor(desk) {
    super();
    this.models = [];
    this.seen = null;
    this.desk = desk;
    const soon = settled(() => this.#look(), PAUSE);
    desk.addEventListener("change", soon);
    this.refresh().then(() => this.#look());
  }

  /** Facts of the chosen model, once they are known. */
  get model() {
    return this.models.find((model) => model.name === this.desk.value("model"));
  }

  /** Fields the chosen model has no use for. */
  get hidden() {
    return new Set(this.model?.hidden ?? []);
  }

  /** Asks for the models that are on the shelf now. */
  async refresh() {
    try {
      this.models = (await ask("shelf")).models;
    } catch {
      return; // The line about the engine tells of a server that does not answer.
    }
    this.dispatchEvent(new Event("models"));
  }

  async #look() {
    this.asking?.abort();
    this.asking = new AbortController();
    try {
      this.seen = await ask("look", { method: "POST", json: { request: this.desk.request }, signal: this.asking.signal });
    } catch {
      return; // Aborted by a later edit, or told by the line about the engine.
    }
    this.dispatchEvent(new Event("seen"));
  }
}

/** One quiet line of advice under each field it is about, with one click to follow it. */
export function showAdvice(desk, look) {
  look.addEventListener("seen", () => {
    const lines = new Map(look.seen.advice.map((advice) => [place(advice.field), advice]));
    for (const line of document.querySelectorAll(".advice")) {
      const advice = lines.get(line);
      line.hidden = !advice;
      line.replaceChildren(...(advice ? [sentence(advice), " ", fix(desk, advice)] : []));
    }
  });
}

function place(field) {
  if (field === "width" || field === "height") return document.getElementById("advice-size");
  return document.querySelector(`#field-${field} .advice`);
}

function sentence(advice) {
  return el("span", {}, say(`advice.${advice.kind}`, advice.values));
}

function fix(desk, advice) {
  return button(say(`advice.${advice.kind}.fix`, advice.values), () => desk.change(advice.fix), { class: "link" });
}
