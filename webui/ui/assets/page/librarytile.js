// One thing on the shelves: its picture, its name, what tells it from others.

import { button, el, icon } from "./dom.js";
import { usable } from "./libraryuse.js";
import { sizeOf } from "./lorashelf.js";
import { say, sayable } from "./texts.js";

const ICONS = { model: "model", denoiser: "model", lora: "layers", controlnet: "bone", embedding: "text", vae: "eye", "text encoder": "text" };

export class Tile {
  /** `deeds` has `open(card, tile)` and `use(card)`. */
  constructor(card, deeds) {
    const name = el("span", { class: "name" }, card.name);
    const open = el("button", { type: "button", class: "open", onclick: () => deeds.open(card, this) }, pictureOf(card), name, el("span", { class: "facts" }, factsOf(card)));
    const use = usable(card) && button(say("library.use"), () => deeds.use(card), { class: "use", "aria-label": say("library.use.this", { name: card.name }) });
    this.open = open;
    this.element = el("li", { class: card.problem ? "broken" : "", "data-kind": card.kind }, open, use || null);
  }

  focus() {
    this.open.focus();
  }
}

/** The picture that stands for a card, or a sign of its kind. */
export function pictureOf(card) {
  const frame = el("span", { class: "frame" });
  const sign = () => frame.replaceChildren(icon(card.problem ? "alert" : ICONS[card.kind] ?? "unknown"), card.problem ? el("span", { class: "reason" }, card.problem) : "");
  if (card.picture === null) sign();
  else frame.append(el("img", { src: addressOf(card), alt: "", loading: "lazy", decoding: "async", onerror: sign }));
  return frame;
}

/** Where a card's picture is; another picture has another address. */
export function addressOf(card) {
  return `library/card/${card.id}/picture.webp?of=${encodeURIComponent(card.picture)}`;
}

/** Kind, family, precision, size and a place that is not Easel's own as a short line. */
export function factsOf(card) {
  return [kindOf(card), card.family === "unknown" ? "" : card.family, card.precision, sizeOf(card), card.in_hub ? say("library.hub") : ""].filter(Boolean).map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · ");
}

/** What it is, in words. */
export function kindOf({ kind }) {
  const key = `library.kind.${kind.replace(" ", "_")}`;
  return sayable(key) ? say(key) : kind;
}
