// Presets: the button that names the one in use, and the sheet with all of them.

import { ask, button, download, downloadText, el, icon, settled, toast } from "./dom.js";
import { compared, Differences, labelApply } from "./differences.js";
import { copyLink } from "./link.js";
import { PresetList } from "./presetlist.js";
import { SaveAs } from "./saveas.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";

const APPLIED = "easel.preset";

/** Builds the button and the sheet. `read` is called to choose a picture whose recipe is to be read. */
export class Presets {
  constructor(desk, look, read) {
    this.desk = desk;
    this.look = look;
    this.sheet = new Sheet("presets", say("preset.title"));
    this.list = new PresetList((preset) => this.#show(preset));
    this.differences = new Differences(desk, look, say("diff.preset"));
    this.saveAs = new SaveAs(desk, look, (preset) => this.refresh(preset.id));
    this.#build();
    this.#bar(read);
  }

  /** Opens the sheet with the preset in use chosen. */
  async open() {
    this.#report([]);
    this.sheet.open();
    this.list.search.focus();
    const id = this.applied?.id ?? null;
    this.list.chooseById(id);
    const found = await this.#listing();
    // Whoever has chosen another one by now keeps it.
    if (found) this.list.show(found, this.list.chosen?.id ?? id);
  }

  /** Asks for the presets again and chooses one, or leaves that one chosen which is. */
  async refresh(id = null) {
    const found = await this.#listing();
    if (found) this.list.show(found, id ?? this.list.chosen?.id ?? null);
  }

  /** Adds the presets in files (presets, or `styles.csv`) and tells how that went. */
  async bringIn(files) {
    if (!this.sheet.dialog.open) await this.open();
    const lines = [];
    let newest = null;
    for (const file of files) {
      try {
        const { added, report } = await ask(`presets/import?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
        lines.push(say(added.length === 1 ? "preset.imported.one" : "preset.imported.many", { n: added.length, file: file.name }), ...report);
        newest = added[0] ?? newest;
      } catch (problem) {
        lines.push(problem.message);
      }
    }
    this.list.clearSearch();
    await this.refresh(newest);
    this.#report(lines);
  }

  #build() {
    const files = el("input", { type: "file", accept: ".json,.csv", multiple: true, hidden: true, onchange: async () => { await this.bringIn([...files.files]); files.value = ""; } });
    this.apply = button("", () => this.#apply(), { class: "primary" });
    this.name = el("h3", {});
    this.about = el("p", { class: "about" });
    this.export = button(say("preset.export"), () => this.#export(), { class: "link" });
    this.delete = button(say("preset.delete"), () => this.#delete(), { class: "link" });
    this.choose = el("p", { class: "same" }, say("preset.choose"));
    this.detail = el("div", { hidden: true }, el("div", { class: "named" }, this.name, el("span", { class: "owned" }, this.export, this.delete)), this.about, this.differences.element);
    this.report = el("div", { class: "report", role: "status", tabindex: "0", hidden: true });
    this.sheet.body.append(this.report, el("div", { class: "columns" }, this.list.element, el("section", { class: "detail" }, this.choose, this.detail)));
    const styles = button(say("preset.styles"), () => this.#writeStyles(), { class: "link", title: say("preset.styles.about") });
    this.list.element.append(styles);
    this.sheet.footer.append(files, button(say("preset.import"), () => files.click()), button(say("preset.save"), () => this.saveAs.open(this.list.chosen)), el("span", { class: "gap" }), this.apply);
    this.differences.addEventListener("change", () => labelApply(this.apply, this.differences));
    labelApply(this.apply, this.differences);
    this.sheet.onEnter(() => this.#apply());
  }

  #listing() {
    return this.sheet.attempt(() => ask("presets"));
  }

  async #show(preset) {
    this.choose.hidden = Boolean(preset);
    this.detail.hidden = !preset;
    this.differences.clear();
    if (!preset) return;
    this.name.textContent = preset.name;
    this.about.textContent = [preset.about, ...preset.notices].filter(Boolean).join(" ");
    this.about.hidden = !this.about.textContent;
    this.delete.hidden = !preset.own;
    this.showing = this.sheet.attempt(() => this.differences.show(preset.request));
    await this.showing;
  }

  async #apply() {
    await this.showing;
    const preset = this.list.chosen;
    if (!preset || !this.differences.taken) return;
    const done = await this.sheet.attempt(async () => { await this.differences.apply(say("preset.applied", { name: preset.name })); return true; });
    if (!done) return;
    this.#use(preset);
    this.sheet.close();
  }

  async #export() {
    const { id } = this.list.chosen;
    // Asked for first, so that a file that is gone is told of here and not saved as an error.
    if (await this.sheet.attempt(() => ask(`presets/${id}/file`))) download(`presets/${id}/file`, "");
  }

  /** The user's own presets for other tools; what a style cannot hold is told. */
  async #writeStyles() {
    const found = await this.sheet.attempt(() => ask("presets/styles"));
    if (!found) return;
    downloadText(found.file, "text/csv", "styles.csv");
    this.#report([say(found.count === 1 ? "preset.written.one" : "preset.written.many", { n: found.count }), ...found.report]);
  }

  async #delete() {
    const gone = await this.sheet.attempt(() => ask(`presets/${this.list.chosen.id}`, { method: "DELETE" }));
    if (!gone) return;
    await this.refresh();
    this.list.search.focus();
    const { name, about, request } = gone;
    const back = () => this.sheet.attempt(() => ask("presets", { method: "POST", json: { name, about, request } }));
    toast(say("preset.deleted", { name }), { words: say("diff.undo"), act: async () => { const kept = await back(); if (kept) await this.refresh(kept.id); } });
  }

  #report(lines) {
    this.report.hidden = !lines.length;
    this.report.replaceChildren(el("ul", {}, ...lines.map((line) => el("li", {}, line))));
  }

  #bar(read) {
    const named = el("span", { class: "in-use" });
    const open = button(say("preset.open"), () => this.open(), { class: "presets-open", "aria-haspopup": "dialog" });
    open.append(named);
    const picture = button(icon("picture"), read, { class: "icon", id: "read-picture", "aria-label": say("drop.choose"), title: say("drop.choose") });
    const link = button(icon("link"), () => copyLink(this.desk.request, this.desk.defaults), { class: "icon", id: "copy-link", "aria-label": say("link.copy"), title: say("link.copy") });
    document.getElementById("preset-bar").append(open, picture, link);
    this.named = named;
    this.applied = stored();
    this.#name();
    const check = settled(() => this.#check(), 300);
    this.desk.addEventListener("change", check);
    this.look.addEventListener("models", check);
  }

  #use(preset) {
    this.applied = { id: preset.id, name: preset.name, request: preset.request };
    sessionStorage.setItem(APPLIED, JSON.stringify(this.applied));
    this.#check();
  }

  /** The preset is in use as long as applying it once more would change nothing. */
  async #check() {
    if (!this.applied) return;
    try {
      const { differences } = await compared(this.desk, { then: this.applied.request });
      this.matching = !differences.some((row) => row.field in this.desk.defaults && !this.look.hidden.has(row.field));
    } catch {
      return; // The line about the engine tells of a server that does not answer.
    }
    this.#name();
  }

  #name() {
    this.named.textContent = this.matching ? this.applied.name : "";
  }
}

function stored() {
  try {
    const preset = JSON.parse(sessionStorage.getItem(APPLIED));
    return preset && typeof preset.request === "object" ? preset : null;
  } catch {
    return null;
  }
}
