// One thing on the shelves in full: what it is, whose it is, where it is used, and the owner's note.

import { number } from "./dates.js";
import { ask, button, el, icon, settled, toast } from "./dom.js";
import { embeddingOf } from "./embeddingshelf.js";
import { factsOf, kindOf, pictureOf } from "./librarytile.js";
import { modelOf, usable, useCard, useEmbedding } from "./libraryuse.js";
import { sizeOf } from "./lorashelf.js";
import { missingOf, missingWords } from "./missing.js";
import { Sheet } from "./sheet.js";
import { termsOf } from "./terms.js";
import { say } from "./texts.js";

const PAUSE = 700;
const COMMAND = "python -c ";
const HASHED = 2000; // Between two looks whether a digest is known.

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
    const own = about?.kind === "embedding" ? await this.sheet.attempt(() => embeddingOf(about)) : null;
    const isModel = usable(about ?? {}) && ["model", "denoiser"].includes(about.kind);
    const missing = isModel ? await this.sheet.attempt(() => missingOf(modelOf(about, this.page.look))) : null;
    if (about && opening === this.#opening) this.#draw({ ...about, missing: missing ?? [], problem: about.problem ?? own?.problem, vectors: own?.vectors, trained: own?.word });
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
    const problem = card.problem && el("p", { class: "broken-why" }, icon("alert"), el("span", {}, ...withCommand(card.problem)));
    this.picture = el("figure", { class: "portrait" }, pictureOf({ ...card, problem: null }));
    this.facts = this.#facts(card);
    const told = el("div", { class: "told-of" }, ...[problem, this.facts, this.#words(card), this.#note(card), this.#uses(card)].filter(Boolean));
    this.sheet.body.replaceChildren(el("div", { class: "about-file" }, this.picture, told));
    this.sheet.footer.replaceChildren(...[card.page && outside(card.page), ...this.#ways(card)].filter(Boolean));
    this.#awaitHash(card, this.#opening);
  }

  /** Buttons for what can be done with it on Create. */
  #ways(card) {
    if (!usable(card)) return [];
    const way = (words, act, options) => button(say(words), () => { this.sheet.close(); act(); }, options);
    if (card.kind !== "embedding") return [way("library.use", () => useCard(card, this.page), { class: "primary" })];
    return [
      way("library.use.negative", () => useEmbedding(card, this.page, "negative_prompt")),
      way("library.use.prompt", () => useEmbedding(card, this.page, "prompt"), { class: "primary" }),
    ];
  }

  /** Its digests are computed in the background: shown when they are there, as long as the sheet is open. */
  async #awaitHash({ id, sha256: known, hashes_left: left }, opening) {
    while (!known && left) {
      await new Promise((done) => setTimeout(done, HASHED));
      if (opening !== this.#opening) return;
      try {
        const now = await ask(`library/card/${id}`);
        [known, left] = [now.sha256, now.hashes_left];
        if (opening !== this.#opening) return;
        const facts = this.#facts({ ...this.card, ...now });
        this.facts.replaceWith(facts);
        this.facts = facts;
      } catch {
        return; // The line about the engine tells of a server that does not answer.
      }
    }
  }

  #facts(card) {
    const unknown = card.page ? say("library.licence.page") : say("library.licence.unknown");
    const facts = [
      ["kind", kindOf(card)], ["family", card.family === "unknown" ? say("library.unknown") : card.family], ["title", card.title], ["base", card.base], ["precision", card.precision],
      ["vectors", card.vectors && number(card.vectors)], ["word", card.trained],
      ["lacks", missingWords(card.missing)], ["size", sizeOf(card)], ["licence", [card.licence, ...termsOf(card.terms)].filter(Boolean).join(" · ") || unknown], ["file", card.path],
      ["place", card.in_hub && say("library.hub.about")],
    ];
    const list = el("dl", { class: "facts-of-file" }, ...facts.filter(([, value]) => value).flatMap(([key, value]) => [el("dt", {}, say(`library.fact.${key}`)), el("dd", {}, value)]));
    for (const [name, value] of [["AutoV2", card.auto_v2], ["AutoV3", card.auto_v3], ["SHA-256", card.sha256]]) {
      if (value) list.append(el("dt", {}, name), el("dd", {}, el("code", {}, name === "SHA-256" ? `${value.slice(0, 16)}…` : value), copying(name, value)));
    }
    if (!card.sha256 && card.hashes_left) {
      const left = card.hashes_left === 1 ? "one" : "many";
      list.append(el("dt", {}, "SHA-256"), el("dd", { class: "quietly" }, say(`library.hashing.${left}`, { n: number(card.hashes_left) })));
    }
    return list;
  }

  #words(card) {
    if (!card.words.length) return null;
    return el("section", {}, el("h3", {}, say("library.words")), el("p", { class: "trained" }, card.words.join(", ")));
  }

  /** The note is kept while it is written: there is no button to forget. */
  #note(card) {
    if (card.in_hub) return null;
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
    const many = card.used === 1 ? "one" : "many";
    parts.push(el("p", { class: "quietly" }, say(card.in_hub ? `library.pictures.hub.${many}` : `library.pictures.${many}`, { n: number(card.used) })));
    const shown = (id) => el("img", { src: `history/${id}/thumbnail.webp`, alt: "", loading: "lazy" });
    const chosen = (id) => el("button", { type: "button", "aria-label": say("library.stand"), title: say("library.stand"), onclick: () => this.#choose(id) }, shown(id));
    const pictures = card.pictures.map((id) => el("li", {}, card.in_hub ? shown(id) : chosen(id)));
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

/** A sentence; the command it may end with can be copied. */
function withCommand(sentence) {
  const at = sentence.indexOf(COMMAND);
  if (at < 0) return [sentence];
  const command = sentence.slice(at);
  return [sentence.slice(0, at), el("code", { class: "command" }, command), copying(say("library.command"), command)];
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
