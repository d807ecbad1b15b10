// Models to begin with, offered while there is only the one that comes with Easel, and never fetched unasked.

import { ask, button, el, icon } from "./dom.js";
import { sizeOf } from "./lorashelf.js";
import { say } from "./texts.js";

export class FirstModels {
  constructor(downloads) {
    this.downloads = downloads;
    this.problem = el("p", { class: "problem", role: "alert" });
    this.rows = el("ul", {});
    this.element = el("section", { class: "first", hidden: true, "aria-label": say("first.title") }, el("h2", {}, say("first.title")), el("p", { class: "quietly" }, say("first.about")), this.rows, this.problem);
  }

  /** Asks what there is to offer; without a graphics card or a network that is nothing. */
  async look() {
    let offered = [];
    try {
      ({ offered } = await ask("library/first?network=true"));
    } catch {
      // Nothing can be offered: the place says why it cannot be used, where that is so.
    }
    this.element.hidden = !offered.length;
    this.rows.replaceChildren(...offered.map((one) => this.#row(one)));
  }

  #row(one) {
    const fetch = button(icon("get"), () => this.#fetch(one, fetch), { class: one.recommended ? "primary get" : "get", "aria-label": say("first.get", { name: one.name, size: sizeOf(one) }) });
    fetch.append(sizeOf(one));
    const best = one.recommended ? el("span", { class: "badge" }, say("first.best")) : null;
    const about = el("div", { class: "what" }, el("div", { class: "title" }, el("b", {}, one.name), best), el("span", {}, say(`first.${one.rank}`)), el("span", { class: "quietly" }, say("get.licence", { licence: one.licence })));
    return el("li", { class: one.recommended ? "best" : "" }, about, fetch);
  }

  async #fetch(one, pressed) {
    this.problem.textContent = "";
    pressed.disabled = true;
    try {
      const { found } = await ask("downloads/look", { method: "POST", json: { source: one.source } });
      await this.downloads.fetch(found.id);
    } catch (problem) {
      this.problem.textContent = problem.message;
    }
    pressed.disabled = false;
  }
}

/** One line under the model of Create, while there is a graphics card and only the built-in model. */
export async function firstHint({ hint, places, look }) {
  const draw = async () => {
    if (look.models.length !== 1) { hint.hidden = true; return; }
    try {
      // This asks the machine alone: the network is looked for when somebody goes there.
      hint.hidden = !(await ask("library/first")).offered.length;
    } catch {
      hint.hidden = true; // A visitor: what is on the shelves is not theirs to change.
    }
  };
  hint.append(say("first.hint"), " ", button(say("first.hint.go"), () => places.go("library"), { class: "link" }));
  look.addEventListener("models", draw);
}
