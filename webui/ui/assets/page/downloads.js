// What is being fetched: how far it is, and pause, resume and give up; gone when all is there.

import { arrange, ask, button, el, icon, toast } from "./dom.js";
import { kindOf } from "./librarytile.js";
import { usable } from "./libraryuse.js";
import { sizeOf } from "./lorashelf.js";
import { say } from "./texts.js";
import { timeLeft } from "./timeleft.js";

const PAUSE = 1000;
const ACTIVE = ["queued", "running", "checking"];

/** What is being fetched, `open`, but for what is all there; dispatches "change". */
export class DownloadList extends EventTarget {
  #rows = new Map();
  #timer = 0;
  #done = null;

  /** `arrived` is called when something is there; `use` with what somebody wants to use at once. */
  constructor(arrived, use) {
    super();
    Object.assign(this, { arrived, use, open: [] });
    this.list = el("ul", { class: "downloads" });
    this.element = el("section", { class: "download-box", hidden: true, "aria-label": say("downloads") }, el("h2", {}, say("downloads")), this.list);
  }

  /** Looks at how far they are, and goes on looking while any is under way. */
  async refresh() {
    try {
      this.show(await ask("downloads"));
    } catch {
      return; // The line about the engine tells of a server that does not answer, the place of one that may not be used.
    }
  }

  /** Fetches something that was looked at. Throws a `Problem`. */
  async fetch(found) {
    this.show(await ask("downloads", { method: "POST", json: { found } }));
  }

  show({ downloads }) {
    clearTimeout(this.#timer);
    const done = downloads.filter(({ state }) => state === "done");
    if (this.#done) for (const one of done) if (!this.#done.has(one.id)) this.#tell(one);
    this.#done = new Set(done.map(({ id }) => id));
    this.open = downloads.filter(({ state }) => state !== "done");
    for (const id of this.#rows.keys()) if (!this.open.some((one) => one.id === id)) this.#rows.delete(id);
    for (const one of this.open) {
      if (!this.#rows.has(one.id)) this.#rows.set(one.id, new Row(one, (deed) => this.#act(one.id, deed)));
      this.#rows.get(one.id).draw(one);
    }
    arrange(this.list, this.open.map(({ id }) => this.#rows.get(id).element));
    this.element.hidden = !this.open.length;
    this.dispatchEvent(new Event("change"));
    if (this.open.some(({ state }) => ACTIVE.includes(state))) this.#timer = setTimeout(() => this.refresh(), PAUSE);
  }

  async #tell(one) {
    await this.arrived();
    toast(say("downloads.done", { name: one.title }), usable(one) ? { words: say("library.use"), act: () => this.use(one) } : null);
  }

  async #act(id, deed) {
    try {
      this.show(await ask(`downloads/${id}${deed === "remove" ? "" : `/${deed}`}`, { method: deed === "remove" ? "DELETE" : "POST" }));
    } catch (problem) {
      toast(problem.message);
      this.refresh();
    }
  }
}

/** How far a download is: `state` in words, and a `bar`. */
export class Progress {
  constructor(name) {
    this.state = el("p", { class: "state-of" });
    this.bar = el("div", { class: "bar-of", role: "progressbar", "aria-label": say("downloads.progress", { name }), "aria-valuemin": "0", "aria-valuemax": "100" }, el("i"));
  }

  draw(one) {
    this.state.textContent = line(one);
    const share = one.size ? one.received / one.size : 0;
    this.bar.style.setProperty("--done", share);
    this.bar.setAttribute("aria-valuenow", String(Math.floor(100 * share)));
  }
}

class Row {
  constructor(one, act) {
    this.progress = new Progress(one.title);
    this.progress.state.setAttribute("role", "status");
    this.said = el("p", { class: "said" });
    const deed = (name, sign) => button(icon(sign), () => act(name), { class: "icon", "aria-label": say(`downloads.${name}`, { name: one.title }), title: say(`downloads.${name}`, { name: one.title }) });
    this.pause = deed("pause", "pause");
    this.resume = deed("resume", "play");
    this.remove = deed("remove", "close");
    this.element = el("li", {}, el("div", { class: "what" }, el("b", {}, one.title), el("span", {}, [kindOf(one), one.host].join(" · "))), this.progress.state, el("div", { class: "deeds-of" }, this.pause, this.resume, this.remove), this.progress.bar, this.said);
  }

  draw(one) {
    const active = ACTIVE.includes(one.state);
    const held = document.activeElement === this.pause || document.activeElement === this.resume;
    this.pause.hidden = !active;
    this.resume.hidden = active;
    if (held) (active ? this.pause : this.resume).focus();
    this.element.dataset.state = one.state;
    this.said.textContent = one.said ?? "";
    this.progress.draw(one);
  }
}

function line(one) {
  const much = say("downloads.much", { received: sizeOf({ size: one.received }), size: sizeOf(one) });
  if (one.state !== "running") return [say(`downloads.state.${one.state}`), much].join(" · ");
  if (!one.rate) return much;
  const speed = say("downloads.rate", { size: sizeOf({ size: one.rate }) });
  return [much, speed, say("time.left", { time: timeLeft((one.size - one.received) / one.rate) })].join(" · ");
}
