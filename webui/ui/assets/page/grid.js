// The grid of pictures. Only the rows near the window are in the page; the height of all is kept.

import { dayInWords } from "./dates.js";
import { el } from "./dom.js";
import { layOut, measures, rowAt } from "./rows.js";
import { dropTile, makeTile, markTile } from "./tile.js";

const AROUND = 600; // Pixels above and below the window that are drawn, too.
const AHEAD = 3; // Screens below the window for which pictures are fetched.
const TOP = 60; // Whoever is that near the top wants to see what is new there.
const AIR = 8;

export class Grid {
  /** `covered()` gives how many pixels at the top of the window lie below something else. */
  constructor(found, choice, covered) {
    this.found = found;
    this.choice = choice;
    this.covered = covered;
    this.at = 0; // The picture that the keyboard is on.
    this.items = [];
    this.rows = [];
    this.rest = el("div", { class: "rest", "aria-hidden": "true" });
    this.root = el("div", { role: "grid", class: "grid", "aria-multiselectable": "true" }, this.rest);
    found.addEventListener("change", ({ detail }) => this.#follow(detail.fresh));
    choice.addEventListener("change", () => this.#mark());
    addEventListener("scroll", () => this.#soon(), { passive: true });
    addEventListener("resize", () => this.#soon());
    new ResizeObserver(() => this.root.clientWidth !== this.width && this.#keepingPlace()).observe(this.root);
  }

  /** The picture that an element belongs to, by its place among all; -1 for none. */
  atOf(target) {
    const cell = target.closest(".tile");
    return cell ? Number(cell.dataset.at) : -1;
  }

  /** Moves the keyboard to a picture, scrolling as far as is needed to see it. */
  focus(at) {
    this.at = Math.max(0, Math.min(at, this.items.length - 1));
    const row = this.#rowOf(this.at);
    if (!row) return;
    const top = this.root.getBoundingClientRect().top + row.top;
    const over = top - this.covered() - AIR;
    const under = top + row.height + AIR - innerHeight;
    if (over < 0) scrollBy(0, over);
    else if (under > 0) scrollBy(0, under);
    this.draw(true);
    this.#cell(this.at)?.focus({ preventScroll: true });
  }

  /** The picture that many rows further down (up where it is negative), in the same column. */
  inRow(by) {
    const own = this.#rowOf(this.at);
    let row = own;
    let n = this.places[this.at];
    for (let left = Math.abs(by); left > 0 && this.rows[n]; ) {
      n += Math.sign(by);
      if (!this.rows[n]?.tiles) continue;
      row = this.rows[n];
      left -= 1;
    }
    const here = own.tiles[this.at - own.tiles[0].at];
    const middle = here.left + here.width / 2;
    const far = (tile) => Math.abs(tile.left + tile.width / 2 - middle);
    return row === own ? this.at : row.tiles.reduce((near, tile) => (far(tile) < far(near) ? tile : near)).at;
  }

  /** Rows of pictures that fit into the window. */
  get rowsSeen() {
    const { gap, height } = measures(this.width);
    return Math.max(1, Math.floor((innerHeight - this.covered()) / (height + gap)));
  }

  /** Draws the rows that are near the window, and drops the others. */
  draw(stay = this.root.contains(document.activeElement)) {
    if (!this.width) return;
    const top = -this.root.getBoundingClientRect().top;
    // After a jump there is all to draw: what is seen comes first, what is around it a frame later.
    const jumped = Math.abs(top - this.#top) > innerHeight;
    const around = jumped ? 0 : AROUND;
    this.#top = top;
    const wanted = [];
    for (let n = rowAt(this.rows, top - around); n < this.rows.length && this.rows[n].top < top + innerHeight + around; n += 1) wanted.push(n);
    if (jumped) this.#soon();
    if (!stay) this.at = this.#firstSeen(top + this.covered());
    // The row that the keyboard is on stays, wherever it is: a focus must not get lost.
    const own = this.places[this.at];
    if (own < wanted[0]) wanted.unshift(own);
    else if (own > (wanted.at(-1) ?? -1)) wanted.push(own);
    this.#show(wanted);
    if (this.height < top + innerHeight * (1 + AHEAD)) this.found.more();
  }

  #drawn = new Map(); // Elements of rows by what is in them.
  #asked = 0;
  #top = 0; // Where the window was when it was drawn last.

  #rowOf(at) {
    return this.rows[this.places?.[at]];
  }

  #cell(at) {
    return this.root.querySelector(`.tile[data-at="${at}"]`);
  }

  #soon() {
    this.#asked ||= requestAnimationFrame(() => { this.#asked = 0; this.draw(); });
  }

  #layOut() {
    this.width = this.root.clientWidth;
    if (!this.width) return;
    this.items = this.found.items;
    Object.assign(this, layOut(this.items, this.width));
    // What is not fetched yet is taken to be as high as what is.
    const missing = this.items.length ? Math.max(0, this.found.total - this.items.length) * (this.height / this.items.length) : 0;
    const { gap, height } = measures(this.width);
    this.root.style.height = `${this.height + missing}px`;
    this.root.style.setProperty("--gap", `${gap}px`);
    this.root.style.setProperty("--side", `${height}px`);
    this.root.setAttribute("aria-rowcount", String(this.found.whole ? this.rows.length : -1));
    this.rest.style.top = `${this.height}px`;
    this.at = Math.max(0, Math.min(this.at, this.items.length - 1));
  }

  #follow(fresh) {
    if (!fresh) return this.#keepingPlace();
    this.at = 0;
    this.#layOut();
    this.draw();
  }

  /** Lays out anew and scrolls so that what is at the top of the window stays where it is. */
  #keepingPlace() {
    const seen = () => this.covered() - this.root.getBoundingClientRect().top;
    const focused = this.root.contains(document.activeElement) ? this.items[this.at]?.id : undefined;
    const at = this.#firstSeen(seen());
    const kept = seen() > TOP ? this.items[at]?.id : undefined;
    const offset = kept && seen() - this.#rowOf(at).top;
    this.#layOut();
    const now = kept === undefined ? -1 : this.items.findIndex((item) => item.id === kept);
    if (now >= 0) scrollBy(0, this.#rowOf(now).top + offset - seen());
    this.draw(true);
    if (focused === undefined) return;
    const same = this.items.findIndex((item) => item.id === focused);
    this.at = same < 0 ? this.at : same;
    this.draw(true);
    this.#cell(this.at)?.focus({ preventScroll: true });
  }

  /** The first picture that is seen below `top`, a distance from the grid's top. */
  #firstSeen(top) {
    const rows = this.rows;
    let n = rowAt(rows, top);
    while (n < rows.length && !rows[n].tiles) n += 1;
    return rows[Math.min(n, rows.length - 1)]?.tiles?.[0].at ?? 0;
  }

  #show(wanted) {
    const keys = new Map(wanted.map((n) => [this.#key(this.rows[n]), n]));
    for (const [key, element] of this.#drawn) {
      if (keys.has(key)) continue;
      for (const cell of element.querySelectorAll(".tile")) dropTile(cell);
      element.remove();
      this.#drawn.delete(key);
    }
    let next = this.rest;
    for (const [key, n] of [...keys].reverse()) {
      if (!this.#drawn.has(key)) {
        this.#drawn.set(key, this.#make(this.rows[n], n));
        this.root.insertBefore(this.#drawn.get(key), next);
      }
      next = this.#drawn.get(key);
    }
    for (const cell of this.root.querySelectorAll(".tile[tabindex='0']")) if (Number(cell.dataset.at) !== this.at) cell.tabIndex = -1;
    const own = this.#cell(this.at);
    if (own) own.tabIndex = 0;
  }

  /** Two rows with the same key look the same, so the element of one does for the other. */
  #key({ top, height, day, tiles }) {
    if (day) return `${top} ${day}`;
    const [first, last] = [tiles[0].at, tiles.at(-1).at];
    return [top, height, first, this.items[first].id, last, this.items[last].id].join(" ");
  }

  #make(row, n) {
    const place = { role: "row", "aria-rowindex": String(n + 1), style: `top:${row.top}px;height:${row.height}px` };
    if (row.day) return el("div", { ...place, class: "day" }, el("span", { role: "rowheader" }, dayInWords(row.day)));
    return el("div", { ...place, class: "pictures" }, ...row.tiles.map((tile) => {
      const cell = makeTile(this.items[tile.at], tile, row.height);
      cell.dataset.at = tile.at;
      markTile(cell, this.choice.has(cell.dataset.id));
      return cell;
    }));
  }

  #mark() {
    this.root.classList.toggle("choosing", this.choice.size > 0);
    for (const cell of this.root.querySelectorAll(".tile")) markTile(cell, this.choice.has(cell.dataset.id));
  }
}
