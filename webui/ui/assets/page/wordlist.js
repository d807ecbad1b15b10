// One of the brief's lists: its phrases to pick from, and the box in which they are edited.

import { ask, button, el, toast } from "./dom.js";
import { say } from "./texts.js";

export class WordList {
  #picked = new Set();

  /** `changed` is called when what is picked has changed. */
  constructor({ name, phrases, own, broken }, sheet, changed) {
    Object.assign(this, { name, sheet, changed });
    this.chips = el("div", { class: "chips", role: "group", "aria-label": say(`brief.${name}`) });
    this.told = el("p", { class: "same", hidden: true });
    this.text = el("textarea", { rows: "10", spellcheck: true, "aria-label": say("brief.lines", { list: say(`brief.${name}`) }) });
    this.edit = button(say("brief.edit"), () => this.#edit(true), { class: "link" });
    this.reset = button(say("brief.reset"), () => this.#reset(), { class: "link" });
    this.shown = el("div", {}, this.chips, this.told, el("p", { class: "quiet-deeds" }, this.edit, this.reset));
    this.editor = el("div", { hidden: true },
      el("p", { class: "same" }, say("brief.hint")), this.text,
      el("p", { class: "quiet-deeds" }, button(say("brief.save"), () => this.#save(this.text.value.split("\n"))), button(say("diff.cancel"), () => this.#edit(false))));
    this.count = el("span", { class: "picks" });
    this.tab = el("button", { type: "button", role: "tab", id: `brief-tab-${name}`, "aria-controls": `brief-panel-${name}` }, el("span", {}, say(`brief.${name}`)), this.count);
    this.panel = el("section", { role: "tabpanel", id: `brief-panel-${name}`, "aria-labelledby": this.tab.id }, this.shown, this.editor);
    this.#take({ phrases, own, broken });
  }

  /** The phrases that are picked, in the order of the list. */
  get picked() {
    return this.phrases.filter((phrase) => this.#picked.has(phrase));
  }

  get editing() {
    return !this.editor.hidden;
  }

  pick(phrases) {
    this.#picked = new Set(phrases);
    this.#draw();
  }

  /** Shows the list, or hides it. */
  turn(here) {
    this.tab.setAttribute("aria-selected", String(here));
    this.tab.tabIndex = here ? 0 : -1;
    this.panel.hidden = !here;
  }

  #take({ phrases, own, broken }) {
    this.phrases = [...new Set(phrases)];
    this.reset.hidden = !own;
    this.told.hidden = !broken && phrases.length > 0;
    this.told.textContent = broken ?? say("brief.none");
    this.chips.replaceChildren(...this.phrases.map((phrase) => button(phrase, () => this.#toggle(phrase), { class: "chip" })));
    this.#draw();
  }

  #toggle(phrase) {
    if (!this.#picked.delete(phrase)) this.#picked.add(phrase);
    this.#draw();
    this.changed();
  }

  #draw() {
    for (const [at, chip] of [...this.chips.children].entries()) chip.setAttribute("aria-pressed", String(this.#picked.has(this.phrases[at])));
    this.count.textContent = this.picked.join(", ");
  }

  #edit(on) {
    this.text.value = this.phrases.join("\n");
    this.shown.hidden = on;
    this.editor.hidden = !on;
    (on ? this.text : this.edit).focus();
  }

  #save(phrases) {
    return this.#write({ method: "PUT", json: { phrases } });
  }

  async #reset() {
    const { phrases } = this;
    if (await this.#write({ method: "DELETE" })) toast(say("brief.shipped"), { words: say("diff.undo"), act: () => this.#save(phrases) });
  }

  /** Whether it went well. */
  async #write(asked) {
    const list = await this.sheet.attempt(() => ask(`words/${this.name}`, asked));
    if (!list) return false;
    this.#take(list);
    this.#edit(false);
    this.changed();
    return true;
  }
}
