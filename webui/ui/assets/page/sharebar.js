// The line on top of a page that is shared: for its owner with the address and the end of it.

import { ask, button, el, toast } from "./dom.js";
import { say } from "./texts.js";
import { timeLeft } from "./timeleft.js";

const PACE = 30000;

export class ShareBar {
  #shown = "";

  constructor(root, standing) {
    Object.assign(this, { root, standing });
    this.address = el("output", { class: "address", "aria-label": say("share.at"), tabindex: "0" });
    this.left = el("span", { class: "left" });
    this.problem = el("span", { class: "problem", role: "alert" });
    this.stop = button(say("share.stop"), () => this.#ask(true), { class: "link" });
    this.keep = button(say("share.keep"), () => this.#ask(false), { class: "link" });
    this.really = button(say("share.stop"), () => this.#stop(), { class: "sure" });
    this.line = el("span", { class: "line" }, say("share.at"), " ", this.address, " ", button(say("share.copy"), () => this.#copy(), { class: "link" }));
    this.end = el("span", { class: "end" }, this.left, " ", this.stop);
    // What goes on stands where the pointer is: the second half of a double click ends nothing.
    this.sure = el("span", { class: "end", role: "group", "aria-label": say("share.stop") }, say("share.sure"), " ", this.really, " ", this.keep);
    root.setAttribute("aria-label", say("share"));
    standing.addEventListener("change", () => this.#draw());
    setInterval(() => this.share && !document.hidden && this.refresh(), PACE);
    this.refresh();
  }

  async refresh() {
    try {
      const share = await ask("share");
      this.share = share.active ? share : null;
    } catch (problem) {
      // Without sharing there is no such address; a server that does not answer is told of elsewhere.
      if (problem.status) this.share = null;
    }
    this.#draw();
  }

  #draw() {
    const { share, root } = this;
    root.hidden = !share;
    const shown = !share ? "" : !share.owner ? "visitor" : this.asking ? "asking" : "owner";
    if (shown !== this.#shown) {
      this.#shown = shown;
      root.className = `share ${shown}`;
      if (shown === "visitor") root.replaceChildren(this.note = el("span", {}));
      else if (shown) root.replaceChildren(this.line, shown === "asking" ? this.sure : this.end, this.problem);
      else root.replaceChildren();
    }
    if (shown === "visitor") this.note.textContent = say(this.standing.seen?.level ? "share.visitor" : "share.visitor.strict");
    else if (shown) this.#drawOwner();
  }

  #drawOwner() {
    if (this.address.textContent !== this.share.address) this.address.textContent = this.share.address;
    this.left.textContent = say("time.left", { time: timeLeft(this.share.expires_at - Date.now() / 1000) });
  }

  #ask(asking) {
    this.asking = asking;
    this.problem.textContent = "";
    this.#draw();
    (asking ? this.keep : this.stop).focus();
  }

  async #stop() {
    this.really.disabled = true;
    try {
      await ask("share/stop", { method: "POST" });
      this.asking = false;
      this.share = null;
      this.#draw();
      document.getElementById("input-prompt").focus();
      toast(say("share.stopped"));
    } catch (problem) {
      this.problem.textContent = problem.message;
    } finally {
      this.really.disabled = false;
    }
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.share.address);
      toast(say("share.copied"));
    } catch {
      getSelection().selectAllChildren(this.address);
      toast(say("share.uncopied"));
    }
  }
}
