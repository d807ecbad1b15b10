// Looks over the recipe after each edit: mistakes, advice, tokens, what the model has a use for.

import { ask, button, el, settled } from "./dom.js";
import { say } from "./texts.js";

const PAUSE = 250;

export class Look extends EventTarget {
  #stale = true;

  constructor(desk) {
    super();
    this.models = [];
    this.seen = null;
    this.desk = desk;
    const soon = settled(() => this.#look(), PAUSE);
    desk.addEventListener("change", () => { this.#stale = true; soon(); });
    /** Resolves once it has been asked for the first time what is on the shelf. */
    this.known = this.refresh();
    this.known.then(() => this.#look());
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
    // What came may be what the chosen model lacked.
    if (this.seen) this.#look();
  }

  /** What there is to say of the recipe as it is now. */
  async now() {
    if (this.#stale) await this.#look();
    return this.seen;
  }

  async #look() {
    this.#stale = false;
    this.asking?.abort();
    this.asking = new AbortController();
    try {
      this.seen = await ask("look", { method: "POST", json: { request: this.desk.request }, signal: this.asking.signal });
    } catch {
      this.#stale = true;
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
      line.replaceChildren(...(advice ? [sentence(advice), " ", fix(desk, look, advice)] : []));
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

function fix(desk, look, { kind, field, values }) {
  const follow = async () => {
    // The recipe may have changed since: what is followed is the advice on it as it is now.
    const seen = await look.now();
    const advice = seen.advice.find((each) => each.kind === kind && each.field === field);
    if (advice) desk.change(advice.fix);
  };
  return button(say(`advice.${kind}.fix`, values), follow, { class: "link" });
}
