// The place of everything on the shelves: models, LoRAs and their kin, to be found, told of and fetched.

import { ask, button, choices, el, icon, settled } from "./dom.js";
import { number } from "./dates.js";
import { DownloadList } from "./downloads.js";
import { firstHint, FirstModels } from "./firstmodels.js";
import { GetSheet } from "./getmodel.js";
import { LibrarySheet } from "./librarysheet.js";
import { Tile } from "./librarytile.js";
import { useCard } from "./libraryuse.js";
import { folded, say } from "./texts.js";

const PAGE = 120; // Tiles drawn at once: each brings a picture.
const PAUSE = 150;
const GROUPS = { model: ["model", "denoiser"], lora: ["lora"], controlnet: ["controlnet"], embedding: ["embedding"], vae: ["vae"], other: ["text encoder", "unknown"] };
const SORTS = {
  "used": (one, other) => other.used - one.used || other.modified - one.modified,
  "name": (one, other) => one.name.localeCompare(other.name),
  "newest": (one, other) => other.modified - one.modified,
  "size": (one, other) => other.size - one.size,
};

/**
 * Builds the place when it is first shown. `page` has `desk`, `look`, `places`, `loras`, `controls`,
 * and `hint`, a line of Create that leads here while there is only the built-in model.
 */
export function buildLibrary(root, page) {
  let place = null;
  const follow = () => {
    if (page.places.current === "library") (place ??= new LibraryPlace(root, page)).visit();
  };
  page.places.addEventListener("go", follow);
  firstHint(page);
  follow();
}

class LibraryPlace {
  constructor(root, page) {
    Object.assign(this, { root, page });
    this.cards = [];
    this.group = "";
    this.problem = null;
    this.downloads = new DownloadList(() => this.#arrived(), (found) => this.#useFound(found));
    this.get = new GetSheet(this.downloads);
    this.first = new FirstModels(this.downloads);
    this.sheet = new LibrarySheet(page, { changed: () => this.refresh() });
    this.#build();
  }

  /** It is shown: with what is on the shelves now. */
  async visit() {
    this.downloads.refresh();
    await this.refresh();
    // The network is looked for here and nowhere else: whoever comes here may want something from it.
    this.first.look();
  }

  async refresh() {
    try {
      this.cards = (await ask("library")).cards;
      this.problem = null;
    } catch (problem) {
      this.problem = problem;
    }
    this.known = true;
    this.#drawFamilies();
    this.#draw(PAGE);
  }

  #build() {
    const soon = settled(() => this.#draw(PAGE), PAUSE);
    this.search = el("input", { type: "search", autocomplete: "off", spellcheck: false, placeholder: say("library.search"), "aria-label": say("library.search"), oninput: soon });
    this.sort = el("select", { "aria-label": say("library.sort"), onchange: () => this.#draw(PAGE) });
    choices(this.sort, Object.keys(SORTS).map((name) => [name, say(`library.sort.${name}`)]));
    this.kinds = el("div", { class: "kinds", role: "group", "aria-label": say("library.kinds") });
    this.families = el("select", { class: "families", "aria-label": say("library.family"), hidden: true, onchange: () => this.#draw(PAGE) });
    const get = button(icon("get"), () => this.get.open(), { class: "primary get", "aria-haspopup": "dialog" });
    get.append(say("library.get"));
    this.count = el("p", { class: "count", role: "status" });
    this.bar = el("div", { class: "library-bar" }, el("div", { class: "seek", role: "search" }, this.search, this.sort, get), el("div", { class: "sieve" }, this.kinds, this.families));
    this.grid = el("ul", { class: "shelf", "aria-label": say("library.shelf") });
    this.more = button("", () => this.#draw(this.shown + PAGE), { class: "more" });
    this.words = el("p", { class: "nothing" });
    this.root.append(this.bar, this.downloads.element, this.first.element, this.count, this.grid, this.more, this.words);
  }

  #draw(count) {
    const words = folded(this.search.value).split(/\s+/);
    const found = this.cards.filter((card) => words.every((word) => folded([card.name, card.file, card.family, card.found_by].join("\n")).includes(word)) && (!this.families.value || card.family === this.families.value));
    this.#drawKinds(found);
    const shown = found.filter((card) => !this.group || GROUPS[this.group].includes(card.kind)).sort(SORTS[this.sort.value]);
    // What is broken is told of, after all that works.
    shown.sort((one, other) => Boolean(one.problem) - Boolean(other.problem));
    this.shown = count;
    const deeds = { open: (card, tile) => this.sheet.open(card, tile), use: (card) => useCard(card, this.page) };
    this.grid.replaceChildren(...shown.slice(0, count).map((card) => new Tile(card, deeds).element));
    this.more.hidden = shown.length <= count;
    this.more.textContent = say("library.more", { n: number(shown.length - count) });
    this.#drawWords(shown.length);
  }

  /** Families are told apart where there are several; what is chosen stays so. */
  #drawFamilies() {
    const names = [...new Set(this.cards.map(({ family }) => family))].filter((family) => family !== "unknown").sort();
    choices(this.families, [["", say("library.family.all")], ...names.map((name) => [name, name])]);
    this.families.hidden = names.length < 2;
  }

  #drawKinds(found) {
    const chip = (name, n) => button(say(`library.group.${name || "all"}`), () => { this.group = name; this.#draw(PAGE); }, { "aria-pressed": String(this.group === name), "data-group": name, class: "kind" });
    const counted = Object.entries(GROUPS).map(([name, kinds]) => [name, found.filter((card) => kinds.includes(card.kind)).length]);
    const chips = [["", found.length], ...counted.filter(([name, n]) => n || this.group === name)].map(([name, n]) => {
      const one = chip(name);
      one.append(el("span", { class: "n" }, number(n)));
      return one;
    });
    const focused = document.activeElement?.dataset.group;
    const held = this.kinds.contains(document.activeElement);
    this.kinds.replaceChildren(...chips);
    if (held) chips.find((one) => one.dataset.group === focused)?.focus();
  }

  #drawWords(n) {
    this.bar.hidden = Boolean(this.problem);
    this.count.textContent = this.problem ? "" : say(`library.count.${n === 1 ? "one" : "many"}`, { n: number(n) });
    this.words.hidden = n > 0 && !this.problem;
    this.words.textContent = this.problem?.message ?? say("library.none");
  }

  /** Something has been fetched: all shelves of the page look anew. */
  async #arrived() {
    const { look, loras, controls } = this.page;
    this.first.look();
    await Promise.all([look.refresh(), loras.refresh(), controls.refresh(), this.refresh()]);
  }

  #useFound({ name }) {
    const card = this.cards.find((one) => one.file === name || one.file.endsWith(`/${name}`));
    if (card) useCard(card, this.page);
  }
}
