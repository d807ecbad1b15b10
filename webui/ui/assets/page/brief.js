// The brief: a prompt composed of phrases from six lists, which can be edited.

import { ask, button, el } from "./dom.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";
import { WordList } from "./wordlist.js";

const ALWAYS = ["subject", "setting", "light"];
const EITHER = [["camera", "film"], ["style"]]; // A photo or something made by hand, not both.

export class Brief {
  constructor() {
    this.sheet = new Sheet("brief", say("brief.title"), { typed: true });
    this.lists = [];
    this.tabs = el("div", { class: "tabs", role: "tablist", "aria-label": say("brief.lists"), "aria-orientation": "vertical", onkeydown: (event) => this.#walk(event) });
    this.panels = el("div", { class: "panels" });
    this.composed = el("output", { class: "composed", tabindex: "0" });
    this.replace = button(say("brief.replace"), () => this.#put(true), { class: "primary" });
    this.append = button(say("brief.append"), () => this.#put(false));
    this.sheet.body.append(el("div", { class: "columns" }, this.tabs, this.panels));
    this.sheet.footer.append(this.composed, button(say("brief.surprise"), () => this.#surprise()), button(say("brief.clear"), () => this.#pick(new Map())), el("span", { class: "gap" }), this.append, this.replace);
    this.sheet.onEnter(() => this.replace.click());
    this.#offer();
    this.#compose();
  }

  async open() {
    this.sheet.open();
    if (this.lists.some((list) => list.editing)) return;
    const found = await this.sheet.attempt(() => ask("words"));
    if (!found) return;
    const picked = new Map(this.lists.map((list) => [list.name, list.picked]));
    const current = this.current?.name;
    this.lists = found.lists.map((list) => new WordList(list, this.sheet, () => this.#compose()));
    this.tabs.replaceChildren(...this.lists.map((list) => list.tab));
    this.panels.replaceChildren(...this.lists.map((list) => list.panel));
    for (const list of this.lists) list.tab.addEventListener("click", () => this.#turn(list));
    this.#pick(picked);
    this.#turn(this.lists.find((list) => list.name === current) ?? this.lists[0]);
    this.current.tab.focus();
  }

  /** The button stands in the line of the token counter. */
  #offer() {
    const tokens = document.getElementById("tokens-prompt");
    const line = el("div", { class: "under" });
    tokens.before(line);
    line.append(tokens, button(say("brief.open"), () => this.open(), { class: "link", id: "brief", "aria-haspopup": "dialog" }));
  }

  #turn(list) {
    this.current = list;
    for (const one of this.lists) one.turn(one === list);
  }

  #walk(event) {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const { length } = this.lists;
    this.#turn(this.lists[(this.lists.indexOf(this.current) + by + length) % length]);
    this.current.tab.focus();
  }

  #pick(picked) {
    for (const list of this.lists) list.pick(picked.get(list.name) ?? []);
    this.#compose();
  }

  #surprise() {
    const names = [...ALWAYS, ...any(EITHER)];
    const lists = this.lists.filter((list) => names.includes(list.name) && list.phrases.length);
    this.#pick(new Map(lists.map((list) => [list.name, [any(list.phrases)]])));
  }

  get #words() {
    return this.lists.flatMap((list) => list.picked).join(", ");
  }

  #compose() {
    const words = this.#words;
    this.composed.textContent = words || say("brief.nothing");
    this.composed.classList.toggle("unpicked", !words);
    this.replace.disabled = !words;
    this.append.disabled = !words;
  }

  #put(whole) {
    const words = this.#words;
    if (!words) return;
    this.sheet.close();
    putIntoPrompt(words, whole);
  }
}

/** Writes into the prompt's box the way its own undo knows of. */
export function putIntoPrompt(words, whole) {
  const text = document.getElementById("input-prompt");
  text.focus();
  const before = text.value.trimEnd();
  text.setSelectionRange(whole ? 0 : before.length, text.value.length);
  const joint = whole || !before ? "" : before.endsWith(",") ? " " : ", ";
  document.execCommand("insertText", false, joint + words);
}

function any(things) {
  return things[Math.floor(Math.random() * things.length)];
}
