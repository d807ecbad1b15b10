// Saving some of the page's recipe as a preset.

import { DiffTable } from "./difftable.js";
import { ask, button, el } from "./dom.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";

const MAX_NAME = 80;
const MAX_ABOUT = 300;

export class SaveAs {
  /** `saved` is given the preset once it is written. */
  constructor(desk, look, saved) {
    this.desk = desk;
    this.look = look;
    this.saved = saved;
    this.sheet = new Sheet("save-as", say("preset.save.title"), { typed: true });
    this.name = el("input", { type: "text", id: "preset-name", maxlength: String(MAX_NAME), autocomplete: "off", oninput: () => this.#settle() });
    this.about = el("input", { type: "text", id: "preset-about", maxlength: String(MAX_ABOUT), autocomplete: "off" });
    this.table = new DiffTable([say("diff.default"), say("diff.now")], () => "");
    this.table.addEventListener("change", () => this.#settle());
    this.save = button(say("preset.save.do"), () => this.#write(false), { class: "primary" });
    this.replace = button(say("preset.replace"), () => this.#write(true), { class: "primary", hidden: true });
    this.sheet.body.append(
      el("div", { class: "names" },
        el("label", { for: "preset-name" }, say("preset.name")), this.name,
        el("label", { for: "preset-about" }, say("preset.about")), this.about),
      el("p", { class: "same" }, say("preset.save.which")), this.table.element);
    this.sheet.footer.append(button(say("diff.cancel"), () => this.sheet.close()), this.save, this.replace);
    this.sheet.onEnter(() => (this.replace.hidden ? this.save : this.replace).click());
  }

  /** Opens the sheet; a chosen preset of the user's own is what is saved anew. */
  open(preset) {
    const { name, about } = preset?.own ? preset : { name: "", about: "" };
    this.name.value = name;
    this.about.value = about;
    const { desk, look } = this;
    const fields = desk.fields.filter((field) => !look.hidden.has(field.name));
    this.table.show(fields.map(({ name: field, group, default: usual }) => {
      const now = desk.value(field);
      return { field, group, now: usual, then: now, wanted: field !== "seed" && JSON.stringify(now) !== JSON.stringify(usual) };
    }));
    this.sheet.open();
    this.#settle();
    this.name.focus();
  }

  #settle() {
    this.replace.hidden = true;
    this.save.hidden = false;
    this.save.disabled = !this.name.value.trim() || !this.table.taken.length;
  }

  async #write(replace) {
    if (this.save.disabled) return;
    const request = Object.fromEntries(this.table.taken.map((field) => [field, this.desk.value(field)]));
    const body = { name: this.name.value, about: this.about.value, request, replace };
    const preset = await this.sheet.attempt(async () => {
      try {
        return await ask("presets", { method: "POST", json: body });
      } catch (problem) {
        this.replace.hidden = problem.status !== 409;
        this.save.hidden = !this.replace.hidden;
        throw problem;
      }
    });
    if (!preset) return;
    this.sheet.close();
    this.saved(preset);
  }
}
