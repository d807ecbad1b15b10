// The sheet in which something is fetched: one box to paste into, what lies there, and one button.

import { ask, button, el, icon } from "./dom.js";
import { kindOf } from "./librarytile.js";
import { sizeOf } from "./lorashelf.js";
import { Sheet } from "./sheet.js";
import { termsOf } from "./terms.js";
import { say } from "./texts.js";

export class GetSheet {
  #looking = 0;

  constructor(downloads) {
    this.downloads = downloads;
    this.sheet = new Sheet("get-model", say("get.title"), { typed: true });
    this.box = el("input", { type: "text", id: "get-source", autocomplete: "off", spellcheck: false, placeholder: say("get.placeholder"), "aria-describedby": "get-about", oninput: () => this.#changed(), onpaste: () => setTimeout(() => this.#look()) });
    this.button = button(say("get.look"), () => this.#look());
    this.found = el("div", { class: "got", role: "status" });
    this.sheet.body.append(
      el("label", { for: this.box.id }, say("get.box")), el("div", { class: "get-row" }, this.box, this.button),
      el("p", { class: "quietly", id: "get-about" }, say("get.about")), this.found);
    this.sheet.onEnter(() => this.#look());
  }

  open() {
    this.box.value = "";
    this.#changed();
    this.sheet.open();
    this.box.focus();
  }

  #changed() {
    this.#looking += 1;
    this.found.replaceChildren();
    this.sheet.footer.replaceChildren();
    this.sheet.problem.textContent = "";
    this.button.disabled = !this.box.value.trim();
  }

  async #look(source = this.box.value.trim()) {
    if (!source) return;
    this.#changed();
    const looking = this.#looking;
    this.found.replaceChildren(el("p", { class: "quietly" }, say("get.looking")));
    const seen = await this.sheet.attempt(() => ask("downloads/look", { method: "POST", json: { source } }));
    if (looking !== this.#looking) return;
    this.found.replaceChildren();
    if (seen?.choices) this.#choose(seen.choices);
    else if (seen) this.#offer(seen.found);
  }

  /** Several things lie at the same place. */
  #choose({ title, rows, licence, page }) {
    const row = ({ source, name, size }) => el("li", {}, el("button", { type: "button", onclick: () => { this.box.value = source; this.#look(source); } }, el("span", { class: "name" }, name || say("get.folder")), el("span", { class: "facts" }, size ? sizeOf({ size }) : say("get.folder.about"))));
    this.found.replaceChildren(el("h3", {}, say("get.choose", { title })), el("p", { class: "quietly" }, licenceLine(licence, page)), el("ul", { class: "get-choices" }, ...rows.map(row)));
    this.found.querySelector("button").focus();
  }

  #offer(found) {
    const facts = [kindOf(found), found.family === "unknown" ? "" : found.family, sizeOf(found), found.host].filter(Boolean).join(" · ");
    const terms = termsOf(found.terms);
    const licence = found.licence || !terms.length ? el("p", { class: "licence" }, licenceLine(found.licence, found.page)) : "";
    const allowed = terms.length ? el("section", { class: "terms" }, el("h4", {}, say("get.terms")), el("ul", {}, ...terms.map((term) => el("li", {}, term)))) : "";
    this.found.replaceChildren(
      el("h3", {}, found.title), el("p", { class: "facts" }, facts), licence, allowed,
      el("p", { class: "quietly" }, say(found.checked ? "get.checked" : "get.unchecked", { name: found.name, folder: found.folder })));
    const fetch = button(icon("get"), () => this.#fetch(found), { class: "primary get" });
    fetch.append(say("get.fetch", { size: sizeOf(found) }));
    this.sheet.footer.replaceChildren(...[found.page && el("a", { href: found.page, target: "_blank", rel: "noopener noreferrer", class: "link" }, say("library.page", { host: new URL(found.page).hostname })), fetch].filter(Boolean));
    fetch.focus();
  }

  async #fetch(found) {
    const done = await this.sheet.attempt(async () => { await this.downloads.fetch(found.id); return true; });
    if (done) this.sheet.close();
  }
}

function licenceLine(licence, page) {
  return licence ? say("get.licence", { licence }) : say(page ? "library.licence.page" : "library.licence.unknown");
}
