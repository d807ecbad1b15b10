// The sheet in which a LoRA is looked for: by name and trigger word, what fits the model first.

import { button, el } from "./dom.js";
import { factsOf, fitOf } from "./lorashelf.js";
import { Sheet } from "./sheet.js";
import { folded, say } from "./texts.js";

const PAGE = 60; // Entries drawn at once: a thousand would be felt with every letter.
const ORDER = ["fits", "unknown", "other", "broken"];

export class LoraPicker {
  /** `add` and `open` are given the name of a LoRA: to be put on the stack, or to be told of. */
  constructor(look, shelf, { add, open }) {
    Object.assign(this, { look, shelf });
    this.take = (name) => { this.sheet.close(); add(name); };
    this.tell = open;
    this.sheet = new Sheet("lora-picker", say("loras.pick"));
    this.search = el("input", {
      type: "search", autocomplete: "off", spellcheck: false, placeholder: say("loras.search"), "aria-label": say("loras.search"),
      oninput: () => this.#draw(PAGE),
    });
    this.list = el("ul", { class: "entries" });
    this.none = el("p", { class: "same", role: "status" });
    this.more = button("", () => this.#more(), { class: "link" });
    this.sheet.body.append(this.search, el("div", { class: "scroll" }, this.list, this.none, this.more));
    this.sheet.onEnter(() => this.#first());
    this.sheet.dialog.addEventListener("keydown", (event) => this.#walk(event));
    shelf.addEventListener("cards", () => this.sheet.dialog.open && this.#draw(PAGE));
  }

  async open() {
    this.search.value = "";
    this.#draw(PAGE);
    this.sheet.open();
    this.search.focus();
    await this.sheet.attempt(() => this.shelf.refresh());
    this.#draw(PAGE);
  }

  /** The LoRAs that have all words of the search, in the order they are of use. */
  #found() {
    const words = folded(this.search.value).split(/\s+/);
    const { model } = this.look;
    const place = (card) => 2 * ORDER.indexOf(fitOf(card, model)) + (folded(card.name).includes(words[0]) ? 0 : 1);
    const found = this.shelf.cards.filter((card) => words.every((word) => this.shelf.text(card).includes(word)));
    return found.map((card) => [place(card), card]).sort(([one], [other]) => one - other).map(([, card]) => card);
  }

  #draw(count) {
    this.found = this.#found();
    this.count = count;
    this.list.replaceChildren(...this.found.slice(0, count).map((card) => this.#entry(card)));
    this.#foot();
  }

  #more() {
    const at = this.count;
    this.count += PAGE;
    this.list.append(...this.found.slice(at, this.count).map((card) => this.#entry(card)));
    this.#foot();
    this.list.children[at]?.querySelector("button").focus();
  }

  #foot() {
    const left = this.found.length - this.count;
    this.more.hidden = left <= 0;
    this.more.textContent = say("loras.more.left", { n: left });
    this.none.textContent = this.found.length ? "" : this.#nothing();
  }

  #nothing() {
    if (!this.shelf.known) return say("loras.reading");
    return this.shelf.cards.length ? say("loras.none") : say("loras.empty", { folder: this.shelf.folder });
  }

  #entry(card) {
    const fit = fitOf(card, this.look.model);
    const name = el("span", { class: "name" }, card.name);
    if (fit === "broken") return el("li", { class: fit }, el("div", { class: "entry" }, name, el("span", { class: "warn" }, card.problem)));
    const named = [name, el("span", { class: "facts" }, factsOf(card))];
    if (card.triggers.length) named.push(el("span", { class: "words" }, card.triggers.join(", ")));
    if (fit === "other") named.push(el("span", { class: "warn" }, say("loras.other", { family: card.family, own: this.look.model.loras }), " ", el("b", {}, say("loras.anyway"))));
    const add = el("button", { type: "button", class: "entry", onclick: () => this.take(card.name) }, ...named);
    const about = button(say("loras.facts"), () => this.tell(card.name), { class: "link", "aria-label": say("loras.about", { name: card.name }) });
    return el("li", { class: fit }, add, about);
  }

  #first() {
    this.list.querySelector("button.entry")?.click();
  }

  #walk(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const stops = [this.search, ...this.list.querySelectorAll("button.entry")];
    const at = stops.indexOf(document.activeElement.closest("li")?.querySelector("button.entry") ?? this.search);
    stops[Math.min(stops.length - 1, Math.max(0, at + by))].focus();
  }
}
