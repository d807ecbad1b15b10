// What was measured of the LoRAs that were used in this tab: how much each changes, how alike two are.

import { el } from "./dom.js";
import { locale, say } from "./texts.js";

const STRONG = 0.3; // From this cosine on two LoRAs get into each other's way.
const ROWS = ["noise", "context", "layer", "double", "joint", "single"]; // Blocks of transformers, of which there are dozens.
const OFTEN_NONE = ["in", "out"]; // Hardly any LoRA changes these blocks: not shown where it does not.

export class LoraMeasures extends EventTarget {
  #model = null;
  #seen = null;
  #sizes = new Map();
  #overlaps = new Map();

  constructor(job, desk) {
    super();
    this.desk = desk;
    job.addEventListener("view", () => this.#hear(job.view.stack));
  }

  /** Lines about those of the stack that overlap a lot; they keep themselves up to date. */
  lines() {
    const box = el("div", { class: "overlaps" });
    const draw = () => {
      const names = [...new Set(this.desk.value("loras").filter(({ enabled }) => enabled).map(({ name }) => name))];
      const pairs = names.flatMap((one, at) => names.slice(at + 1).map((other) => [one, other, this.#overlap(one, other)]));
      box.replaceChildren(...pairs.filter(([, , cosine]) => Math.abs(cosine) > STRONG).map(([one, other, cosine]) => el("p", {}, inWords(one, other, cosine))));
    };
    this.addEventListener("change", draw);
    this.desk.addEventListener("change", ({ detail }) => detail.names.includes("loras") && draw());
    draw();
    return box;
  }

  /** For the card of a LoRA, whatever name it was used by: its size by block, its overlap with others. */
  extras(asked, shelf) {
    const [card] = shelf.find(asked);
    const name = [...this.#sizes.keys()].find((used) => shelf.find(used)[0] === card);
    if (!name) return [];
    const others = [...this.#sizes.keys()].filter((other) => this.#overlap(name, other) !== null);
    const overlaps = others.map((other) => overlapRow(other, this.#overlap(name, other)));
    return [
      el("section", { class: "chart" }, el("h3", {}, say("stack.sizes")), ...charts(this.#sizes.get(name))),
      ...(overlaps.length ? [el("section", {}, el("h3", {}, say("stack.overlaps")), el("ul", { class: "overlap-rows" }, ...overlaps))] : []),
    ];
  }

  #hear(stack) {
    if (!stack || stack === this.#seen) return;
    this.#seen = stack;
    // What is measured relative to one model says nothing of another.
    if (this.#model !== this.desk.value("model")) [this.#sizes, this.#overlaps] = [new Map(), new Map()];
    this.#model = this.desk.value("model");
    for (const [name, sizes] of Object.entries(stack.sizes)) this.#sizes.set(name, sizes);
    for (const [one, other, cosine] of stack.overlaps) this.#overlaps.set(pair(one, other), cosine);
    this.dispatchEvent(new Event("change"));
  }

  /** Cosine between two, or null while it is not known. */
  #overlap(one, other) {
    return this.#overlaps.get(pair(one, other)) ?? null;
  }
}

function pair(one, other) {
  return JSON.stringify([one, other].sort());
}

function percent(share, digits = 0) {
  return new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: digits }).format(share);
}

function inWords(one, other, cosine) {
  return say(cosine > 0 ? "stack.alike" : "stack.against", { one, other, share: percent(Math.abs(cosine)) });
}

function overlapRow(name, cosine) {
  const bar = el("i", { class: cosine < 0 ? "against" : null, "aria-hidden": "true" });
  bar.style.setProperty("--share", Math.abs(cosine));
  return el("li", {}, el("span", { class: "name" }, name), bar, el("span", { class: "value" }, percent(cosine)));
}

/** A bar for each block, the largest as high as there is room; a row for each kind there are many of. */
function charts(sizes) {
  const blocks = Object.entries(sizes).filter(([block, size]) => size > 0 || !OFTEN_NONE.includes(block));
  const largest = Math.max(...blocks.map(([, size]) => size));
  const inRow = (block) => ROWS.includes(block.split(" ")[0]);
  const few = blocks.filter(([block]) => !inRow(block));
  const rows = ROWS.map((kind) => [kind, blocks.filter(([block]) => block.split(" ")[0] === kind)]).filter(([, row]) => row.length);
  return [
    ...(few.length ? [el("ul", { class: rows.length ? "bars few" : "bars" }, ...few.map(([block, size]) => bar(block, size, largest, [el("span", { class: "value" }, number(100 * size))], blockName(block))))] : []),
    ...rows.flatMap(([kind, row]) => [
      el("h4", {}, say(`stack.blocks.${kind}`), el("span", {}, say("stack.most", { share: percent(Math.max(...row.map(([, size]) => size)), 2) }))),
      el("ul", { class: "bars many", "aria-label": say(`stack.blocks.${kind}`) }, ...row.map(([block, size], at) => bar(block, size, largest, [el("span", { class: "unseen" }, percent(size, 2))], isTick(at) ? String(at + 1) : ""))),
    ]),
  ];
}

function bar(block, size, largest, value, name) {
  const filled = el("i", { "aria-hidden": "true" });
  filled.style.setProperty("--share", largest ? size / largest : 0);
  return el("li", { title: `${blockName(block)}: ${percent(size, 2)}` }, el("span", { class: "column" }, ...value, filled), el("span", { class: "name" }, name));
}

/** Of many blocks the first and every tenth are numbered. */
function isTick(at) {
  return at === 0 || (at + 1) % 10 === 0;
}

function number(value) {
  return new Intl.NumberFormat(locale(), { maximumSignificantDigits: 2 }).format(value);
}

/** "down 1" in words. */
function blockName(block) {
  const [kind, n] = block.split(" ");
  return say(`stack.block.${kind}`, { n });
}
