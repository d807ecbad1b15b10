// The filter: a badge beside Generate with the level, and a sheet with all levels and the guards.

import { button, el, icon, toast } from "./dom.js";
import { Sheet } from "./sheet.js";
import { LEVELS } from "./standing.js";
import { say } from "./texts.js";
import { timeLeft } from "./timeleft.js";

const REDRAWN = 20000;
const GUARDS = {
  detector: "filter.guard.detector",
  words: "filter.guard.words",
  nsfw: "filter.guard.nsfw",
  "face age": "filter.guard.face_age",
  explicit: "filter.guard.explicit",
  text: "filter.guard.text",
};
const METHODS = { owner: "gate.by.owner", invite: "gate.by.invite", issuer: "gate.by.issuer" };

export class FilterPanel {
  /** `openWays` is called with a level that needs a grant. */
  constructor(badge, standing, openWays) {
    Object.assign(this, { badge, standing, openWays });
    this.level = el("span", { class: "level" });
    this.grant = el("span");
    this.grantLine = el("p", { class: "grant", hidden: true }, this.grant, " ", button(say("gate.end"), () => this.#giveUp(), { class: "link" }));
    this.cards = LEVELS.map((_, level) => new LevelCard(level, () => this.#choose(level)));
    this.count = el("summary");
    this.guards = el("ul", { class: "guards" });
    badge.replaceChildren(icon("shield"), el("span", { class: "what" }, say("filter.title")), this.level);
    badge.addEventListener("click", () => this.open());
    standing.addEventListener("change", () => this.#draw());
    standing.addEventListener("fell", ({ detail }) => this.#tellFall(detail));
    // Grants run out by the minute, and what is not seen need not be right.
    setInterval(() => this.sheet?.dialog.open && this.#drawGrant(), REDRAWN);
    this.#draw();
  }

  open() {
    this.sheet ??= this.#build();
    this.sheet.open();
    this.standing.refresh();
  }

  #build() {
    const sheet = new Sheet("filter", say("filter.title"));
    const levels = el("ul", { class: "levels", "aria-label": say("filter.levels") }, ...this.cards.map((card) => card.element));
    const fold = el("details", { class: "fold" }, this.count, this.guards);
    sheet.body.append(this.grantLine, levels, el("p", { class: "quiet-words" }, say("filter.kind")), el("p", { class: "quiet-words" }, say("filter.brought")), fold);
    return sheet;
  }

  #choose(level) {
    const { standing } = this;
    if (standing.of(level).held_by.length) this.openWays(level);
    else standing.choose(level);
  }

  async #giveUp() {
    const raised = this.standing.level;
    const ended = await this.sheet.attempt(async () => { await this.standing.put("give-up"); return true; });
    if (!ended) return;
    this.cards[this.standing.level].button.focus();
    // Of a level that falls with it the fall itself tells.
    if (!raised) toast(say("gate.ended"));
  }

  #draw() {
    const { standing } = this;
    const name = say(LEVELS[standing.level].name);
    this.level.textContent = name;
    this.badge.dataset.level = standing.level;
    this.badge.setAttribute("aria-label", say("filter.now", { level: name }));
    for (const card of this.cards) card.draw(standing);
    const guards = standing.seen?.guards ?? [];
    this.count.textContent = say("filter.guards", { loaded: guards.filter((guard) => !guard.trouble).length, n: guards.length });
    this.guards.replaceChildren(...guards.map(guardLine));
    this.count.parentElement?.toggleAttribute("hidden", !guards.length);
    this.#drawGrant();
  }

  #drawGrant() {
    const { standing } = this;
    const { grant } = standing.seen ?? {};
    this.grantLine.hidden = !grant;
    if (!grant) return;
    const idle = grant.idle_seconds === null ? [] : [say("gate.idle", { minutes: Math.round(grant.idle_seconds / 60) })];
    this.grant.textContent = [say(METHODS[grant.method]), say("time.left", { time: timeLeft(standing.secondsLeft) }), ...idle].join(" · ");
  }

  #tellFall({ held_by }) {
    const key = held_by.includes("grant") ? "filter.fell.grant" : "filter.fell";
    toast(say(key, { level: say(LEVELS[this.standing.level].name) }));
  }
}

/** A level: what it allows, and what it would take. */
class LevelCard {
  constructor(level, chosen) {
    this.level = level;
    this.held = el("div", { class: "held", id: `held-${level}` });
    const words = LEVELS[level];
    this.button = button(el("i", { class: "dot" }), chosen, { "aria-describedby": this.held.id });
    this.button.append(el("strong", {}, say(words.name)), " ", el("span", {}, say(words.about)));
    this.element = el("li", {}, this.button, this.held);
  }

  draw(standing) {
    const { held_by: held, missing } = standing.of(this.level);
    const ways = standing.seen?.ways ?? [];
    const openable = held.length === 1 && held[0] === "grant" && ways.length > 0;
    this.button.disabled = held.length > 0 && !openable;
    this.button.setAttribute("aria-pressed", String(standing.level === this.level));
    if (openable) this.button.setAttribute("aria-haspopup", "dialog");
    else this.button.removeAttribute("aria-haspopup");
    const lines = {
      // Whoever sits elsewhere has no terminal to type it in.
      operator: () => [say("filter.held.operator"), ...(held.includes("share") ? [] : [" ", say("filter.operator.how"), " ", el("code", {}, `python -m webui policy set max_level ${this.level}`)])],
      share: () => [say("filter.held.share")],
      guards: () => [say("filter.held.guards", { names: missing.map(guardName).join(", ") })],
      grant: () => [say(!ways.length ? "filter.held.nobody" : openable ? "filter.held.grant" : "filter.held.later")],
    };
    this.held.replaceChildren(...held.map((kind) => el("p", {}, ...(lines[kind]?.() ?? [say("filter.held.other")]))));
  }
}

function guardLine({ name, trouble }) {
  return el("li", { class: trouble ? "missing" : "loaded" }, el("span", {}, guardName(name)), el("span", { class: "said" }, trouble ?? say("filter.guard.loaded")));
}

function guardName(name) {
  return name in GUARDS ? say(GUARDS[name]) : name;
}
