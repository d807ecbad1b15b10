// The list of presets: searched by typing, walked by the arrow keys; broken files under it.

import { el } from "./dom.js";
import { folded, say } from "./texts.js";

export class PresetList {
  /** `chose` is given the preset that is chosen now, or null. */
  constructor(chose) {
    this.chose = chose;
    this.presets = [];
    this.chosen = null;
    this.search = el("input", {
      type: "search", role: "combobox", autocomplete: "off", spellcheck: false, placeholder: say("preset.search"), "aria-label": say("preset.search"),
      "aria-expanded": "true", "aria-controls": "preset-list", "aria-autocomplete": "list", oninput: () => this.#searched(), onkeydown: (event) => this.#walk(event),
    });
    this.options = el("ul", { role: "listbox", id: "preset-list", "aria-label": say("preset.title"), tabindex: "0", onkeydown: (event) => this.#walk(event) });
    this.none = el("p", { class: "same", hidden: true }, say("preset.none"));
    this.broken = el("ul", {});
    this.brokenPart = el("section", { class: "broken", hidden: true }, el("h3", {}, say("preset.broken")), this.broken);
    this.element = el("div", { class: "list" }, this.search, el("div", { class: "scroll" }, this.options, this.none, this.brokenPart));
  }

  /** Draws a listing and chooses the preset of that id, if it is there. */
  show({ presets, broken }, id) {
    this.presets = presets;
    this.broken.replaceChildren(...broken.map(({ file, reason }) => el("li", {}, el("b", {}, file), ` ${reason}`)));
    this.brokenPart.hidden = !broken.length;
    this.#draw();
    this.chooseById(id);
  }

  /** Chooses the preset of that id, or none where it is not listed. */
  chooseById(id) {
    this.choose(this.presets.find((preset) => preset.id === id) ?? null);
  }

  clearSearch() {
    this.search.value = "";
    this.#draw();
  }

  choose(preset) {
    this.chosen = preset;
    for (const option of this.options.children) {
      const here = option.dataset.id === preset?.id;
      option.setAttribute("aria-selected", String(here));
      if (here) option.scrollIntoView({ block: "nearest" });
    }
    for (const walked of [this.search, this.options]) {
      if (preset) walked.setAttribute("aria-activedescendant", `preset-${preset.id}`);
      else walked.removeAttribute("aria-activedescendant");
    }
    this.chose(preset);
  }

  #searched() {
    const found = this.#draw();
    if (!found.includes(this.chosen)) this.choose(this.search.value.trim() ? found[0] ?? null : null);
  }

  /** Draws the presets that have all words of the search; gives them. */
  #draw() {
    const words = folded(this.search.value).split(/\s+/);
    const found = this.presets.filter((preset) => words.every((word) => folded(`${preset.name} ${preset.about}`).includes(word)));
    this.options.replaceChildren(...found.map((preset) => this.#option(preset)));
    this.none.hidden = Boolean(found.length);
    return found;
  }

  #option(preset) {
    const name = el("span", { class: "name" }, preset.name, preset.own ? el("span", { class: "own" }, say("preset.own")) : null);
    const option = el("li", { role: "option", id: `preset-${preset.id}`, "aria-selected": String(preset.id === this.chosen?.id), onclick: () => this.choose(preset) }, name, el("span", { class: "about" }, preset.about));
    option.dataset.id = preset.id;
    return option;
  }

  #walk(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const ids = [...this.options.children].map((option) => option.dataset.id);
    if (!ids.length) return;
    const at = ids.indexOf(this.chosen?.id);
    const next = at < 0 ? (by > 0 ? 0 : ids.length - 1) : Math.min(ids.length - 1, Math.max(0, at + by));
    this.chooseById(ids[next]);
  }
}
