// One saved picture, large, with its recipe and what can be done with it.

import { number, whenMade } from "./dates.js";
import { ask, button, download, el, icon, toast } from "./dom.js";
import { copyLink } from "./link.js";
import { recipeRows, useRecipe } from "./recipe.js";
import { say } from "./texts.js";
import { nameOf } from "./tile.js";

export class PictureSheet {
  /**
   * `deeds` has `remove(ids)` and `restore(ids)`, both telling which were done, `closed(at)`, and
   * `compare({title, request, picture})`, which tells in what the page differs.
   */
  constructor(found, { desk, look, places, start, check }, deeds) {
    Object.assign(this, { found, desk, look, places, start, check, deeds });
    this.#build();
  }

  /** Shows a picture by its place among those that were found. */
  open(at) {
    this.at = at;
    this.dialog.showModal();
    this.#draw();
    this.mat.focus();
  }

  get item() {
    return this.found.items[this.at];
  }

  #build() {
    const turn = (by, name) => button(icon(name), () => this.#go(by), { class: "icon", "aria-label": say(`history.${name}`), title: say(`history.${name}`) });
    this.previous = turn(-1, "previous");
    this.next = turn(1, "next");
    this.title = el("h2", {});
    this.place = el("span", { class: "place", role: "status" });
    this.mat = el("div", { class: "mat", tabindex: "-1" });
    this.facts = el("div", { class: "about" });
    this.foot = el("footer", {});
    const close = button(icon("close"), () => this.dialog.close(), { class: "icon", "aria-label": say("history.close"), title: say("history.close") });
    this.dialog = el("dialog", { class: "sheet picture", "aria-label": say("history.sheet") },
      el("header", {}, el("div", { class: "heading" }, this.title, this.place), this.previous, this.next, close),
      el("div", { class: "body" }, this.mat, this.facts),
      this.foot);
    this.dialog.addEventListener("close", () => this.deeds.closed(this.at));
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    this.found.addEventListener("change", () => this.dialog.open && this.#follow());
    // A click beside the sheet closes it.
    this.dialog.addEventListener("click", ({ target }) => target === this.dialog && this.dialog.close());
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) this.#go(by);
    else if (event.key === "Delete" && !this.found.query.trash) this.#remove();
    else return;
    event.preventDefault();
  }

  /** Others came or went before the picture that is shown: it has another place now. */
  #follow() {
    const at = this.found.items.findIndex(({ id }) => id === this.shown);
    if (at < 0) return;
    this.at = at;
    this.#drawPlace();
  }

  async #go(by) {
    const to = this.at + by;
    if (to >= this.found.items.length) await this.found.more();
    if (!this.found.items[to]) return;
    this.at = to;
    this.#draw();
  }

  async #draw() {
    const { item } = this;
    this.shown = item.id;
    this.title.textContent = whenMade(item.made);
    this.#drawPlace();
    this.mat.replaceChildren(item.broken ? el("p", { class: "reason" }, item.broken) : this.#picture(item));
    this.facts.replaceChildren(fileRow(item));
    this.#drawDeeds(item, { request: null });
    const recipe = await this.#recipe(item);
    const { request } = recipe;
    if (this.shown !== item.id) return; // Gone on to another one meanwhile.
    this.facts.replaceChildren(request ? recipeRows(request) : el("p", { class: "none" }, say("history.norecipe")), fileRow(item));
    this.#drawDeeds(item, recipe);
    for (const near of [this.found.items[this.at + 1], this.found.items[this.at - 1]]) if (near && !near.broken) new Image().src = near.url;
  }

  #drawPlace() {
    this.place.textContent = say("history.place", { at: number(this.at + 1), total: number(this.found.total) });
    this.previous.disabled = this.at === 0;
    this.next.disabled = this.at + 1 >= this.found.total;
  }

  #picture(item) {
    const picture = el("img", { src: item.url, alt: nameOf(item), width: String(item.width), height: String(item.height), style: `--w:${item.width};--h:${item.height}` });
    picture.addEventListener("error", () => picture.replaceWith(el("p", { class: "reason" }, say("history.unshown"))));
    return picture;
  }

  async #recipe(item) {
    if (item.broken) return { request: null };
    try {
      return await ask(`history/${item.id}/recipe`);
    } catch (problem) {
      toast(problem.message);
      return { request: null };
    }
  }

  #drawDeeds(item, { request, report }) {
    // Whoever pressed one of them by keyboard stays on the one that takes its place.
    const held = [...this.foot.children].indexOf(document.activeElement);
    const trashed = this.found.query.trash;
    this.foot.replaceChildren(...[
      trashed ? button(say("history.restore"), () => this.deeds.restore([item.id]).then(() => this.#after())) : button(say("history.delete"), () => this.#remove(), { class: "delete" }),
      button(say("deed.save"), () => download(item.url, item.name)),
      ...(!item.broken && this.look.model && !this.look.hidden.has("init") ? [button(say("deed.init"), () => this.#init(item)), button(say("deed.repaint"), () => this.#init(item, true))] : []),
      request ? button(say("diff.why"), () => this.deeds.compare({ title: say("diff.why.title"), request, report, picture: item.thumbnail })) : null,
      request ? button(say("deed.link"), () => copyLink(request, this.desk.defaults)) : null,
      item.broken ? null : button(say("deed.check"), () => this.#check(item)),
      item.seed === null ? null : button(say("deed.seed"), () => this.#seed(item)),
      request ? button(say("history.use"), () => this.#use({ request, report }), { class: "primary" }) : null,
    ].filter(Boolean));
    if (held >= 0) (this.foot.children[held] ?? this.mat).focus();
  }

  #use(recipe) {
    this.dialog.close();
    this.places.go("create");
    useRecipe(recipe, this.desk, this.look);
  }

  #check(item) {
    this.dialog.close();
    this.check.own(item);
  }

  #seed(item) {
    const changed = this.desk.change({ seed: item.seed });
    toast(say("history.seeded", { seed: item.seed }), changed ? { words: say("history.undo"), act: () => this.desk.undo() } : null);
  }

  async #init(item, repaint = false) {
    if (!(await this.start.from(`/history/${item.id}`))) return;
    this.dialog.close();
    this.places.go("create");
    if (repaint) this.start.paint();
  }

  async #remove() {
    await this.deeds.remove([this.item.id]);
    this.#after();
  }

  /** The picture is gone from here: the next one takes its place, or the one before the end. */
  #after() {
    this.at = Math.min(this.at, this.found.items.length - 1);
    if (this.at < 0) this.dialog.close();
    else this.#draw();
  }
}

function fileRow(item) {
  const path = item.folder ? `${item.folder}/${item.name}` : item.name;
  return el("dl", { class: "recipe" }, el("div", { class: "long" }, el("dt", {}, say("history.file")), el("dd", {}, path)));
}
