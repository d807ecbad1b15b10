// A table of three columns, grouped, each field of which can be taken or left.

import { el } from "./dom.js";
import { stackWords } from "./stackwords.js";
import { plain, say } from "./texts.js";
import { shortened, wordDiff } from "./worddiff.js";

const GROUPS = ["look", "size", "sampling", "model", "loras", "control"];
const TEXTS = ["prompt", "negative_prompt"];
const LONGEST = 400;
const HASH = /^[0-9a-f]{64}$/;

export class DiffTable extends EventTarget {
  /**
   * `heads` are the words over the columns of values; `judge(row, wanted)` says in words why a field
   * cannot be taken, `wanted(name)` being whether another one is ticked, or gives "".
   */
  constructor(heads, judge) {
    super();
    this.heads = heads;
    this.judge = judge;
    this.element = el("div", { class: "difftable" });
    this.rows = [];
  }

  /** Draws rows {field, group, now, then, wanted, note}. */
  show(rows) {
    this.rows = rows.map((row) => ({ ...row, ...this.#drawn(row) }));
    const head = el("tr", {}, ...[say("diff.field"), ...this.heads].map((words) => el("th", { scope: "col" }, words)));
    this.groups = GROUPS.map((name) => ({ name, rows: this.rows.filter((row) => row.group === name) })).filter(({ rows }) => rows.length);
    this.element.replaceChildren(el("table", {}, el("thead", {}, head), ...this.groups.map((group) => this.#group(group))));
    this.#settle();
  }

  /** Names of the fields that are ticked. */
  get taken() {
    return this.rows.filter((row) => row.box.checked).map((row) => row.field);
  }

  /** How many could be ticked. */
  get usable() {
    return this.rows.filter((row) => !row.box.disabled).length;
  }

  #drawn(row) {
    const box = el("input", { type: "checkbox", onchange: () => { this.#want(row.field, box.checked); } });
    box.dataset.field = row.field;
    const note = el("p", { class: "note" });
    const [now, then] = cells(row);
    now.dataset.head = this.heads[0];
    then.dataset.head = this.heads[1];
    const line = el("tr", {}, el("th", { scope: "row" }, el("label", {}, box, say(`field.${row.field}`)), note), now, then);
    return { box, line, noteLine: note };
  }

  #group(group) {
    group.box = el("input", { type: "checkbox", onchange: () => { for (const row of group.rows) row.wanted = group.box.checked; this.#settle(); } });
    group.box.dataset.group = group.name;
    const head = el("tr", { class: "group" }, el("th", { scope: "rowgroup", colspan: "3" }, el("label", {}, group.box, say(`group.${group.name}`))));
    return el("tbody", {}, head, ...group.rows.map((row) => row.line));
  }

  #want(field, wanted) {
    this.rows.find((row) => row.field === field).wanted = wanted;
    this.#settle();
  }

  /** Ticks what is wanted and can be had: a model that is ticked may have a use for other fields. */
  #settle() {
    const wanted = (field) => this.rows.some((row) => row.field === field && row.wanted);
    for (const row of this.rows) {
      const why = this.judge(row, wanted);
      row.box.disabled = Boolean(why);
      row.box.checked = row.wanted && !why;
      row.line.classList.toggle("blocked", Boolean(why));
      row.line.classList.toggle("left", !row.box.checked);
      row.noteLine.textContent = why || row.note || "";
    }
    for (const { box, rows } of this.groups) {
      const usable = rows.filter((row) => !row.box.disabled);
      const ticked = usable.filter((row) => row.box.checked).length;
      box.disabled = !usable.length;
      box.checked = ticked > 0 && ticked === usable.length;
      box.indeterminate = ticked > 0 && ticked < usable.length;
    }
    this.dispatchEvent(new Event("change"));
  }
}

/** The two cells of values; in prompts the words that differ are marked. */
function cells({ field, now, then }) {
  if (!TEXTS.includes(field) || !now || !then) return [el("td", {}, shown(field, now)), el("td", {}, shown(field, then))];
  const sides = { now: el("td", { class: "text" }), then: el("td", { class: "text" }) };
  for (const [kind, words] of wordDiff(now, then)) {
    if (kind === "same") for (const side of Object.values(sides)) side.append(shortened(words).join(""));
    else sides[kind].append(el(kind === "now" ? "del" : "ins", {}, words.join("")));
  }
  return [sides.now, sides.then];
}

/** A field's value as a person reads it. */
function shown(field, value) {
  if (value === null || value === undefined || value === "") return el("span", { class: "unset" }, value === null && field ? unset(field) : say("diff.empty"));
  if (Array.isArray(value)) return value.length ? stackWords(value) : el("span", { class: "unset" }, say("diff.none"));
  const text = plain(value);
  if (HASH.test(text)) return `${text.slice(0, 12)}…`;
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

function unset(field) {
  const words = say(`field.${field}.empty`);
  return words === `field.${field}.empty` ? say("diff.none") : words;
}
