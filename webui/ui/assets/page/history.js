// The place of all saved pictures: joins the bar, the grid, the sheet and what is done with them.

import { Choice } from "./choice.js";
import { number } from "./dates.js";
import { ask, button, el, toast } from "./dom.js";
import { Found } from "./found.js";
import { Grid } from "./grid.js";
import { listenToGrid } from "./gridinput.js";
import { HistoryBar } from "./historybar.js";
import { PictureSheet } from "./picturesheet.js";
import { say } from "./texts.js";

const INDEXING = 1500; // Milliseconds between two looks at how far the index is.

/**
 * Builds the place when it is first shown, and brings it up to date each time it is shown again.
 * `page` has `desk`, `look`, `places`, `job`, `start`, `check` and `compare` (see differences.js).
 */
export function buildHistory(root, page) {
  let place = null;
  const follow = () => {
    if (page.places.current === "history") (place ??= new HistoryPlace(root, page)).visit();
    else place?.leave();
  };
  page.places.addEventListener("go", follow);
  page.job.addEventListener("saved", () => place?.visited && place.refresh());
  follow();
}

class HistoryPlace {
  constructor(root, page) {
    this.root = root;
    this.visited = false;
    this.top = 0;
    this.found = new Found();
    this.choice = new Choice();
    const deeds = { remove: (ids) => this.remove(ids), restore: (ids) => this.restore(ids), empty: () => this.#confirmEmpty() };
    this.bar = new HistoryBar(this.found, this.choice, deeds);
    this.grid = new Grid(this.found, this.choice, () => this.bar.root.getBoundingClientRect().bottom);
    this.grid.root.setAttribute("aria-label", say("history.grid"));
    this.sheet = new PictureSheet(this.found, page, { ...deeds, compare: page.compare, closed: (at) => this.visited && this.grid.focus(at) });
    this.words = el("div", { class: "nothing", role: "status" });
    root.append(this.bar.root, this.words, this.grid.root, this.sheet.dialog);
    listenToGrid(this.grid, this.choice, this.found, { ...deeds, open: (at) => this.sheet.open(at) });
    this.found.addEventListener("change", ({ detail }) => this.#follow(detail.fresh));
    addEventListener("scroll", () => { if (this.visited) this.top = scrollY; }, { passive: true });
    // Heard before the page's own Esc, which stops the job: the nearest thing goes first.
    document.addEventListener("keydown", (event) => this.#escape(event), { capture: true });
  }

  /** It is shown: where it was left, with what is new. */
  visit() {
    if (this.visited) return;
    this.visited = true;
    scrollTo(0, this.top);
    this.grid.draw();
    this.refresh().then(() => this.found.known && this.bar.refresh());
  }

  leave() {
    if (!this.visited) return;
    this.visited = false;
    clearTimeout(this.waiting);
    if (this.top) scrollTo(0, 0);
  }

  refresh() {
    return this.found.refresh();
  }

  /** Moves pictures to the trash, from where one click brings them back. */
  async remove(ids) {
    const gone = await this.#moved("trash", ids);
    if (gone) toast(gone.words, gone.items.length ? { words: say("history.undo"), act: () => this.restore(gone.ids, gone.items) } : null);
  }

  /** Takes pictures out of the trash; `items` is what is known of them where they are not shown. */
  async restore(ids, items = []) {
    const back = await this.#moved("restore", ids);
    if (!back) return;
    const done = new Set(back.ids);
    if (items.length && !this.found.query.trash) this.found.putBack(items.filter(({ id }) => done.has(id)));
    toast(back.words);
  }

  async #moved(deed, ids) {
    const wanted = new Set(ids);
    const items = this.found.items.filter(({ id }) => wanted.has(id));
    try {
      const { done, problems } = await ask(`history/${deed}`, { method: "POST", json: { ids } });
      this.found.remove(done);
      const words = say(`history.${deed}.done.${done.length === 1 ? "one" : "many"}`, { n: number(done.length) });
      return { ids: done, items, words: [done.length ? words : "", ...new Set(problems)].filter(Boolean).join(" ") };
    } catch (problem) {
      toast(problem.message);
      return null;
    }
  }

  #confirmEmpty() {
    const empty = async () => {
      dialog.close();
      try {
        const { problems } = await ask("history/empty", { method: "POST" });
        if (problems.length) toast([...new Set(problems)].join(" "));
      } catch (problem) {
        toast(problem.message);
      }
      this.found.search(this.found.query);
    };
    const dialog = el("dialog", { class: "sheet question", "aria-labelledby": "history-question" },
      el("div", { class: "body" }, el("h2", { id: "history-question" }, say("history.empty.ask")), el("p", {}, say("history.empty.warning"))),
      el("footer", {}, button(say("history.cancel"), () => dialog.close()), button(say("history.empty"), empty, { class: "primary" })));
    dialog.addEventListener("close", () => dialog.remove());
    this.root.append(dialog);
    dialog.showModal();
  }

  #follow(fresh) {
    const { found } = this;
    if (fresh) this.#toTop();
    this.choice.keep(found.items);
    this.#drawWords();
    clearTimeout(this.waiting);
    if (found.indexing && this.visited) this.waiting = setTimeout(() => this.refresh(), INDEXING);
  }

  #toTop() {
    if (this.visited && scrollY > this.root.offsetTop) scrollTo(0, this.root.offsetTop);
  }

  /** The sentence that stands where there are no pictures. */
  #drawWords() {
    const { found, bar } = this;
    // Nothing was ever answered: all there is to show is why.
    const shut = !found.known && found.problem;
    bar.root.hidden = Boolean(shut);
    this.grid.root.hidden = !found.total;
    this.words.hidden = Boolean(found.total) || Boolean(found.indexing);
    if (this.words.hidden) return;
    if (shut) this.words.replaceChildren(el("p", {}, found.problem.message));
    else if (bar.filtered) this.words.replaceChildren(el("p", {}, say("history.nothing")), button(say("history.clear"), () => bar.clear(), { class: "link" }));
    else this.words.replaceChildren(el("p", {}, say(found.query.trash ? "history.trash.none" : "history.none")));
  }

  #escape(event) {
    if (event.key !== "Escape" || !this.visited || !this.choice.size || document.querySelector("dialog[open]")) return;
    event.stopImmediatePropagation();
    this.choice.clear();
  }
}
