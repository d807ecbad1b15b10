// Models to begin with, offered while there is only the one that comes with Easel, and never fetched unasked.

import { ask, button, el, icon } from "./dom.js";
import { Progress } from "./downloads.js";
import { sizeOf } from "./lorashelf.js";
import { say } from "./texts.js";

export class FirstModels {
  constructor(downloads) {
    this.downloads = downloads;
    this.offers = [];
    this.reached = null;
    this.about = el("p", { class: "quietly", role: "status" });
    this.again = button(say("first.again"), () => this.look());
    this.problem = el("p", { class: "problem", role: "alert" });
    this.rows = el("ul", {});
    this.element = el("section", { class: "first", hidden: true, "aria-label": say("first.title") }, el("h2", {}, say("first.title")), this.about, this.rows, this.problem, this.again);
    downloads.addEventListener("change", () => this.#draw());
  }

  /** Asks what there is to offer, which is nothing without a graphics card, then whether it can be had. */
  async look() {
    this.again.disabled = true;
    try {
      this.#take(await ask("library/first"));
      if (this.offers.length) this.#take(await ask("library/first?network=true"));
    } catch {
      // Nothing can be offered: the place says why it cannot be used, where that is so.
      this.#take({ offered: [], reached: null });
    }
    this.again.disabled = false;
  }

  #take({ offered, reached }) {
    this.reached = reached ?? this.reached;
    const same = offered.map(({ source }) => source).join("\n") === this.offers.map(({ one }) => one.source).join("\n");
    if (!same) {
      this.offers = offered.map((one) => new Offer(one, (offer) => this.#fetch(offer)));
      this.rows.replaceChildren(...this.offers.map(({ element }) => element));
    }
    this.element.hidden = !offered.length;
    this.#draw();
  }

  #draw() {
    this.about.textContent = say(this.reached === null ? "first.looking" : this.reached ? "first.about" : "first.away");
    this.again.hidden = this.reached !== false;
    for (const offer of this.offers) offer.draw(this.reached, this.downloads.open.find((download) => offer.becomes(download)));
  }

  async #fetch(offer) {
    this.problem.textContent = "";
    offer.asked = true;
    this.#draw();
    try {
      const { found } = await ask("downloads/look", { method: "POST", json: { source: offer.one.source } });
      await this.downloads.fetch(found.id);
    } catch (problem) {
      this.problem.textContent = problem.message;
    }
    offer.asked = false;
    this.#draw();
  }
}

class Offer {
  constructor(one, fetch) {
    this.one = one;
    this.asked = false;
    this.get = button(icon("get"), () => fetch(this), { class: one.recommended ? "primary get" : "get", "aria-label": say("first.get", { name: one.name, size: sizeOf(one) }) });
    this.get.append(sizeOf(one));
    this.size = el("span", { class: "quietly" }, sizeOf(one));
    this.progress = new Progress(one.name);
    this.under = el("div", { class: "under-way", tabindex: "-1", hidden: true }, this.progress.state, this.progress.bar);
    const best = one.recommended ? el("span", { class: "badge" }, say("first.best")) : null;
    const about = el("div", { class: "what" }, el("div", { class: "title" }, el("b", {}, one.name), best), el("span", {}, say(`first.${one.rank}`)), el("span", { class: "quietly" }, say("get.licence", { licence: one.licence })));
    this.element = el("li", { class: one.recommended ? "best" : "" }, about, this.get, this.size, this.under);
  }

  /** Whether that download is of this: known by its repository, and by what it becomes. */
  becomes({ title, name }) {
    const [owner, repo, file] = this.one.source.split("/");
    return title === `${owner}/${repo}` && (name === file || name === repo);
  }

  draw(reached, download) {
    const held = document.activeElement === this.get;
    this.get.hidden = Boolean(download) || reached === false;
    this.get.disabled = this.asked || !reached;
    this.size.hidden = Boolean(download) || !this.get.hidden;
    this.under.hidden = !download;
    this.element.dataset.state = download?.state ?? "";
    if (download) this.progress.draw(download);
    if (held && download) this.under.focus();
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
