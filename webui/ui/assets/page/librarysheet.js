// One thing on the shelves in full: what it is, whose it is, where it is used, and the owner's note.

import { number } from "./dates.js";
import { ask, button, el, icon, settled, toast } from "./dom.js";
import { factsOf, kindOf, pictureOf } from "./librarytile.js";
import { usable, useCard } from "./libraryuse.js";
import { sizeOf } from "./lorashelf.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";

const PAUSE = 700;

export class LibrarySheet {
  #opening = 0;

  /** `deeds` has `changed()`, called when the sheet closes after something on it was changed. */
  constructor(page, deeds) {
    Object.assign(this, { page, deeds });
    this.sheet = new Sheet("library-card", "");
    this.changed = false;
    this.sheet.dialog.addEventListener("close", () => this.#closed());
  }

  async open(card, tile) {
    const opening = ++this.#opening;
    this.tile = tile;
    this.sheet.title.textContent = card.name;
    this.sheet.body.replaceChildren(el("p", { class: "quietly" }, factsOf(card)));
    this.sheet.footer.replaceChildren();
    this.sheet.open();
    const about = await this.sheet.attempt(() => ask(`library/card/${card.id}`));
    if (about && opening === this.#opening) this.#draw(about);
  }

  async #closed() {
    this.#opening += 1;
    this.tile?.focus();
    await this.#save();
    if (this.changed) this.deeds.changed();
    this.changed = false;
  }

  #save = () => {};

  #draw(card) {
    this.card = card;
    const problem = card.problem && el("p", { class: "broken-why" }, icon("alert"), el("span", {}, card.problem));
    this.picture = el("figure", { class: "portrait" }, pictureOf({ ...card, problem: null }));
    const told = el("div", { class: "told-of" }, ...[problem, this.#facts(card), this.#words(card), this.#note(card), this.#uses(card)].filter(Boolean));
    this.sheet.body.replaceChildren(el("div", { class: "about-file" }, this.picture, told));
    const use = usable(card) && button(say("library.use"), () => { this.sheet.close(); useCard(card, this.page); }, { class: "primary" });
    this.sheet.footer.replaceChildren(...[card.page && outside(card.page), use].filter(Boolean));
  }

  #facts(card) {
    const unknown = card.page ? say("library.licence.page") : say("library.licence.unknown");
    const facts = [
      ["kind", kindOf(card)], ["family", card.family === "unknown" ? say("library.unknown") : card.family], ["title", card.title], ["base", card.base], ["precision", card.precision],
      ["lacks", card.lacks.join(", ")], ["size", sizeOf(card)], ["licence", card.licence ?? unknown], ["file", card.path],
    ];
    const list = el("dl", { class: "facts-of-file" }, ...facts.filter(([, value]) => value).flatMap(([key, value]) => [el("dt", {}, say(`library.fact.${key}`)), el("dd", {}, value)]));
    for (const [name, value] of [["AutoV2", card.auto_v2], ["AutoV3", card.auto_v3], ["SHA-256", card.sha256]]) {
      if (value) list.append(el("dt", {}, name), el("dd", {}, el("code", {}, name === "SHA-256" ? `${value.slice(0, 16)}…` : value), copying(name, value)));
    }
    if (card.hashable && !card.auto_v2) list.append(el("dt", {}, "AutoV2"), el("dd", { class: "quietly" }, say("library.hashing")));
    return list;
  }

  #words(card) {
    if (!card.words.length) return null;
    return el("section", {}, el("h3", {}, say("library.words")), el("p", { class: "trained" }, card.words.join(", ")));
  }

  /** The note is kept while it is written: there is no button to forget. */
  #note(card) {
    const state = el("span", { class: "kept", role: "status" });
    const box = el("textarea", { id: "library-note", rows: 3, maxlength: 4000, placeholder: say("library.note.placeholder") });
    box.value = card.note;
    let kept = card.note;
    let keeping = null;
    const put = async (note) => {
      const done = await this.sheet.attempt(() => ask(`library/card/${card.id}/note`, { method: "PUT", json: { note } }));
      state.textContent = done ? say("library.note.kept") : "";
      if (done) return;
      kept = null;
      if (!this.sheet.dialog.open) toast(this.sheet.problem.textContent);
    };
    const keep = () => {
      if (box.value === kept) return keeping;
      kept = box.value;
      this.changed = true;
      keeping = put(kept);
      return keeping;
    };
    const soon = settled(keep, PAUSE);
    box.addEventListener("input", () => { state.textContent = ""; soon(); });
    box.addEventListener("blur", keep);
    this.#save = keep;
    return el("section", {}, el("div", { class: "note-head" }, el("h3", {}, el("label", { for: box.id }, say("library.note"))), state), box);
  }

  #uses(card) {
    const parts = [el("h3", {}, say("library.where"))];
    if (card.presets.length) parts.push(el("p", { class: "presets-of" }, say("library.presets", { names: card.presets.join(", ") })));
    if (!card.pictures.length) return card.presets.length ? el("section", {}, ...parts) : el("section", {}, ...parts, el("p", { class: "quietly" }, say("library.unused")));
    parts.push(el("p", { class: "quietly" }, say(`library.pictures.${card.used === 1 ? "one" : "many"}`, { n: number(card.used) })));
    const pictures = card.pictures.map((id) => el("li", {}, el("button", { type: "button", "aria-label": say("library.stand"), title: say("library.stand"), onclick: () => this.#choose(id) }, el("img", { src: `history/${id}/thumbnail.webp`, alt: "", loading: "lazy" }))));
    parts.push(el("ul", { class: "made-with" }, ...pictures));
    this.back = button(say("library.stand.back"), () => this.#choose(null), { class: "link", hidden: !card.own_picture });
    parts.push(this.back);
    return el("section", {}, ...parts);
  }

  async #choose(picture) {
    const about = await this.sheet.attempt(() => ask(`library/card/${this.card.id}/picture`, { method: "PUT", json: { picture } }));
    if (!about) return;
    this.changed = true;
    this.card = about;
    this.picture.replaceChildren(pictureOf({ ...about, problem: null }));
    this.back.hidden = !about.own_picture;
    toast(say(picture ? "library.stood" : "library.stood.back"));
  }
}

function outside(page) {
  return el("a", { href: page, target: "_blank", rel: "noopener noreferrer", class: "link" }, say("library.page", { host: new URL(page).hostname }));
}

function copying(name, value) {
  const copy = async () => {
    await navigator.clipboard.writeText(value);
    toast(say("library.copied", { name }));
  };
  return button(icon("copy"), copy, { class: "icon", "aria-label": say("library.copy", { name }), title: say("library.copy", { name }) });
}
