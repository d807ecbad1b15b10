// How far the engine is, asked for again and again; the first to notice that the server is gone.

import { say, sayable } from "./texts.js";

export class Engine extends EventTarget {
  constructor(line) {
    super();
    this.line = line;
    this.ready = false;
    this.message = "";
    this.lost = false;
    this.#ask();
  }

  async #ask() {
    let status = null;
    try {
      status = await (await fetch("status", { cache: "no-store" })).json();
    } catch {
      status = { phase: "lost", message: say("server.lost") };
    }
    const lost = status.phase === "lost";
    if (lost !== this.lost) {
      this.lost = lost;
      this.dispatchEvent(new Event(lost ? "lost" : "back"));
    }
    this.ready = status.phase === "ready";
    const key = `engine.${status.phase}`;
    this.message = sayable(key) ? say(key) : status.message;
    if (this.line.textContent !== this.message) this.line.textContent = this.message;
    this.line.title = this.line.textContent;
    this.line.dataset.phase = status.phase;
    this.dispatchEvent(new Event("status"));
    setTimeout(() => this.#ask(), document.hidden ? 10000 : this.ready ? 3000 : 700);
  }
}
