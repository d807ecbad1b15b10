// A dialog of the page: a title, what there is to see, a line for what went wrong, and the deeds.

import { button, el, icon } from "./dom.js";
import { say } from "./texts.js";

export class Sheet {
  /** With `typed` a click beside it does not close it: it holds what was typed. */
  constructor(name, title, { typed = false } = {}) {
    // Focused when nothing else is: Enter pressed too early must not hit the first button, which closes.
    this.title = el("h2", { id: `sheet-${name}`, tabindex: "-1", autofocus: true }, title);
    this.body = el("div", { class: "body" });
    this.problem = el("p", { class: "problem", role: "alert" });
    this.footer = el("footer");
    const close = button(icon("close"), () => this.close(), { class: "icon", "aria-label": say("sheet.close"), title: say("sheet.close") });
    this.dialog = el("dialog", { class: `sheet ${name}`, "aria-labelledby": this.title.id }, el("header", {}, this.title, close), this.body, this.problem, this.footer);
    // Beside it is the backdrop, which counts as the dialog itself.
    this.dialog.addEventListener("pointerdown", (event) => event.target === this.dialog && !typed && this.close());
    document.getElementById("easel").append(this.dialog);
  }

  open() {
    this.problem.textContent = "";
    if (!this.dialog.open) this.dialog.showModal();
  }

  close() {
    this.dialog.close();
  }

  /** Does `work`; the sentence of what goes wrong stands in the sheet. Gives null then. */
  async attempt(work) {
    this.problem.textContent = "";
    try {
      return await work();
    } catch (error) {
      if (error.name !== "AbortError") this.problem.textContent = error.message;
      return null;
    }
  }

  /** Calls `deed` when Enter is pressed where it has no other meaning. */
  onEnter(deed) {
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing || event.target.closest("button, a, summary, select, textarea")) return;
      event.preventDefault();
      deed();
    });
  }
}
