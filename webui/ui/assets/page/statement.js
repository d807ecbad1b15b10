// What the address brings back to the page: the owner's link, or how a login went.

import { button, el, toast } from "./dom.js";
import { onFragment } from "./fragment.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";
import { timeLeft } from "./timeleft.js";

export class Statement {
  #token = "";

  constructor(standing, panel) {
    Object.assign(this, { standing, panel });
    onFragment("owner", (token) => this.#open(token));
    onFragment("gate", (outcome) => this.#back(outcome));
  }

  #back(outcome) {
    this.panel.open();
    if (outcome !== "ok") this.panel.sheet.problem.textContent = say("gate.login.refused");
  }

  #open(token) {
    this.#token = token;
    this.sheet ??= this.#build();
    this.tick.checked = false;
    this.continue.disabled = true;
    this.sheet.open();
  }

  #build() {
    const sheet = new Sheet("statement", say("gate.statement"), { typed: true });
    this.tick = el("input", { type: "checkbox", onchange: () => { this.continue.disabled = !this.tick.checked; } });
    this.continue = button(say("gate.statement.do"), () => this.#declare(), { class: "primary" });
    sheet.body.append(el("p", {}, say("gate.statement.about")), el("label", { class: "tick" }, this.tick, say("gate.statement.tick")), el("p", { class: "quiet-words" }, say("gate.statement.note")));
    sheet.footer.append(button(say("diff.cancel"), () => sheet.close()), this.continue);
    sheet.onEnter(() => this.continue.click());
    sheet.dialog.addEventListener("close", () => { this.#token = ""; });
    return sheet;
  }

  async #declare() {
    this.continue.disabled = true;
    const declared = await this.sheet.attempt(async () => { await this.standing.put("declare", { token: this.#token }); return true; });
    this.continue.disabled = !this.tick.checked;
    if (!declared) return;
    this.sheet.close();
    this.panel.open();
    toast(say("gate.opened", { time: timeLeft(this.standing.secondsLeft) }));
  }
}
