// How a level that needs a grant is opened: the owner's link, an invitation, a login.

import { ask, button, el, toast } from "./dom.js";
import { Sheet } from "./sheet.js";
import { LEVELS } from "./standing.js";
import { say } from "./texts.js";
import { timeLeft } from "./timeleft.js";

const MAX_CODE = 200; // As webui/standing.py has it.

export class Ways {
  #level = 0;

  constructor(standing) {
    this.standing = standing;
    standing.addEventListener("change", () => this.sheet?.dialog.open && this.#follow());
  }

  /** Shows the ways to a level. */
  open(level) {
    this.#level = level;
    this.sheet ??= this.#build();
    this.sheet.title.textContent = say("gate.title", { level: say(LEVELS[level].name) });
    this.printed.textContent = "";
    this.code.value = "";
    this.#tellCode("");
    this.#draw();
    this.sheet.open();
    (this.owner.hidden && !this.invite.hidden ? this.code : this.sheet.title).focus();
  }

  #build() {
    const sheet = new Sheet("opening", "", { typed: true });
    this.printed = el("p", { class: "done", role: "status" });
    this.owner = way("owner", say("gate.owner"), el("p", {}, say("gate.owner.about")), button(say("gate.owner.do"), () => this.#print()), this.printed);
    this.wrong = el("p", { class: "wrong-code", id: "code-wrong", role: "alert" });
    this.code = el("input", { type: "text", id: "gate-code", maxlength: MAX_CODE, autocomplete: "off", autocapitalize: "characters", spellcheck: "false", "aria-describedby": this.wrong.id, oninput: () => this.#tellCode("") });
    this.redeem = button(say("gate.invite.do"), () => this.#redeem());
    this.invite = way("invite", say("gate.invite"), el("label", { for: this.code.id }, say("gate.invite.code")), el("div", { class: "code" }, this.code, this.redeem), this.wrong);
    this.logIn = button("", () => this.#logIn());
    this.issuer = way("issuer", say("gate.issuer"), el("p", {}, say("gate.issuer.about")), this.logIn);
    this.none = el("p", {}, say("gate.none"));
    sheet.body.append(el("p", { class: "quiet-words" }, say("gate.intro")), this.owner, this.invite, this.issuer, this.none);
    this.code.addEventListener("keydown", (event) => event.key === "Enter" && !event.isComposing && this.#redeem());
    return sheet;
  }

  #draw() {
    const { ways = [], issuer } = this.standing.seen ?? {};
    this.owner.hidden = !ways.includes("owner");
    this.invite.hidden = !ways.includes("invite");
    this.issuer.hidden = !ways.includes("issuer");
    this.none.hidden = ways.length > 0;
    this.logIn.textContent = say("gate.issuer.do", { issuer: issuer ?? "" });
  }

  /** The level may have been opened here, or in the tab the owner's link was opened in. */
  #follow() {
    this.#draw();
    const { standing } = this;
    if (standing.of(this.#level).held_by.length) return;
    this.sheet.close();
    standing.choose(this.#level);
    toast(say("gate.opened", { time: timeLeft(standing.secondsLeft) }));
  }

  async #print() {
    this.printed.textContent = "";
    const printed = await this.sheet.attempt(() => ask("gate/link", { method: "POST" }));
    if (printed) this.printed.textContent = say("gate.owner.done");
  }

  async #redeem() {
    // However it was copied: codes are letters and digits, written in groups.
    const code = this.code.value.replace(/[^\p{L}\p{N}]/gu, "").toUpperCase();
    if (!code || this.redeem.disabled) return;
    this.redeem.disabled = true;
    try {
      await this.standing.put("redeem", { code });
    } catch (problem) {
      this.#tellCode(problem.message);
      this.code.select();
    } finally {
      this.redeem.disabled = false;
    }
  }

  #tellCode(words) {
    this.wrong.textContent = words;
    if (words) this.code.setAttribute("aria-invalid", "true");
    else this.code.removeAttribute("aria-invalid");
  }

  async #logIn() {
    const answer = await this.sheet.attempt(() => ask("gate/login", { method: "POST" }));
    if (!answer) return;
    // Only pages have an origin; what would run here has none.
    if (originOf(answer.address)) location.assign(answer.address);
    else this.sheet.problem.textContent = say("gate.issuer.address");
  }
}

function way(name, title, ...children) {
  return el("section", { class: `way ${name}`, hidden: true }, el("h3", {}, title), ...children);
}

function originOf(address) {
  try {
    const { origin } = new URL(address);
    return origin === "null" ? null : origin;
  } catch {
    return null;
  }
}
