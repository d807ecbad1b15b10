// Strips of drafts under the picture: a LoRA at several strengths, or the stack without each of its rows.

import { ask, button, el, icon, toast } from "./dom.js";
import { plain, say } from "./texts.js";

const PACE = 400; // Milliseconds between two looks at how far the drafts are.
const SLOWER = 2000; // The same while the server does not answer.
const MOST_COLUMNS = 5;

export class Strips {
  #strip = null;
  #rows = [];
  #tiles = [];
  #opener = null;
  #asking = 0;

  /** Stands above the session's pictures in `root`, the section of the picture. */
  constructor(root, { desk, viewer, job, standing }) {
    Object.assign(this, { desk, viewer, job, standing });
    this.title = el("h2", { id: "lineup-title" });
    this.note = el("p", { class: "note" });
    this.count = el("p", { class: "unseen", role: "status" });
    this.problem = el("p", { class: "problem", role: "alert" });
    this.list = el("ul", { class: "drafts" });
    const close = button(icon("close"), () => this.close(), { class: "icon", "aria-label": say("strip.close"), title: say("strip.close") });
    this.root = el("section", { class: "lineup", "aria-labelledby": this.title.id, hidden: true }, el("header", {}, this.title, close), this.note, this.count, this.problem, this.list);
    this.list.addEventListener("keydown", (event) => this.#walk(event));
    root.querySelector(".strip").before(this.root);
    desk.addEventListener("change", ({ detail }) => detail.names.includes("loras") && this.#mark());
    job.addEventListener("view", () => this.#tell());
  }

  /** What can be asked of one row of the stack. */
  rowDeeds(row) {
    const deed = button(say("strip.deed.sweep"), () => this.#begin("sweep", row, deed), { class: "link" });
    return [deed];
  }

  /** What can be asked of the whole stack. */
  panelDeeds() {
    const deed = button(say("strip.deed.without"), () => this.#begin("without", 0, deed), { class: "link" });
    return [deed];
  }

  /** Makes no more drafts and is gone. */
  close() {
    const strip = this.#forget();
    this.root.hidden = true;
    if (strip) ask(`strips/${strip.id}`, { method: "DELETE" }).catch(() => {}); // It ends by itself when nobody asks.
    if (this.#opener?.isConnected) this.#opener.focus();
  }

  async #begin(kind, row, opener) {
    this.#forget();
    const asking = this.#asking;
    this.#opener = opener;
    const { request } = this.desk;
    // The picture that is looked at is the one to be compared with.
    const seed = request.seed ?? this.viewer.picture?.seed ?? null;
    try {
      const strip = await ask("strips", { method: "POST", json: { request: { ...request, seed }, kind, row, level: this.standing.level } });
      if (asking !== this.#asking) return;
      this.#rows = request.loras;
      this.#open(kind, row, strip);
      this.#watch(asking);
    } catch (problem) {
      toast(problem.message);
    }
  }

  #forget() {
    const strip = this.#strip;
    this.#asking += 1;
    this.#strip = null;
    return strip;
  }

  #open(kind, row, strip) {
    this.kind = kind;
    this.title.textContent = kind === "sweep" ? say("strip.sweep", { name: this.#rows[row].name, n: strip.items.length }) : say("strip.deed.without");
    this.problem.textContent = "";
    this.#tiles = strip.items.map((item) => this.#tile(item));
    this.list.replaceChildren(...this.#tiles.map((tile) => tile.element));
    this.list.style.setProperty("--columns", Math.min(this.#tiles.length, MOST_COLUMNS));
    if (strip.width && strip.height) this.list.style.setProperty("--shape", `${strip.width} / ${strip.height}`);
    else this.list.style.removeProperty("--shape");
    this.root.hidden = false;
    this.#show(strip);
    this.root.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  #tile(item) {
    const picture = el("img", { alt: "", hidden: true, decoding: "async" });
    const reason = el("span", { class: "reason" });
    const words = this.#words(item);
    const take = button(el("span", { class: "frame" }, picture, reason, el("i", { class: "grow" })), () => this.#take(item), { disabled: true, title: this.#long(item) });
    take.append(el("span", { class: "words" }, words));
    return { element: el("li", {}, take), take, picture, reason };
  }

  #words({ row, changes }) {
    if (this.kind === "sweep") return plain(changes.weight);
    return row === null ? say("strip.whole") : say("strip.without.one", { name: this.#rows[row].name });
  }

  #long(item) {
    return this.kind === "sweep" ? say("strip.at", { name: this.#rows[item.row].name, strength: item.changes.weight }) : this.#words(item);
  }

  async #watch(asking) {
    while (asking === this.#asking && !this.#strip.finished) {
      let pause = PACE;
      try {
        const strip = await ask(`strips/${this.#strip.id}`);
        if (asking === this.#asking) this.#show(strip);
      } catch (problem) {
        if (asking !== this.#asking) return;
        if (problem.status) {
          this.#forget();
          this.problem.textContent = problem.message;
          return;
        }
        pause = SLOWER; // The line about the engine tells of a server that does not answer.
      }
      await new Promise((settle) => setTimeout(settle, pause));
    }
  }

  #show(strip) {
    this.#strip = strip;
    for (const [place, item] of strip.items.entries()) {
      const { take, picture, reason } = this.#tiles[place];
      take.dataset.state = item.state;
      take.disabled = item.state !== "made";
      take.style.setProperty("--done", item.done);
      reason.textContent = item.message;
      if (item.picture && picture.hidden) {
        picture.src = item.picture;
        picture.hidden = false;
      }
    }
    this.#mark();
    this.#tell();
  }

  /** Marks what the stack is like now. */
  #mark() {
    for (const [place, item] of this.#strip?.items.entries() ?? []) this.#tiles[place].take.setAttribute("aria-pressed", String(this.#isTaken(item)));
  }

  #tell() {
    if (!this.#strip) return;
    const made = this.#strip.items.filter((item) => !["waiting", "making"].includes(item.state)).length;
    const waits = this.job.busy && !this.#strip.finished;
    setText(this.note, waits ? say("strip.waits") : say("strip.note", { steps: this.#strip.steps }));
    setText(this.count, say("strip.made", { made, n: this.#strip.items.length }));
  }

  /** Where the row that was the `row`-th stands now; -1 when it is gone. */
  #place(row) {
    const loras = this.desk.value("loras");
    const { name } = this.#rows[row];
    return loras[row]?.name === name ? row : loras.findIndex((choice) => choice.name === name);
  }

  /** What an item says of each row that it is about, by where the row stands now. */
  #wanted(item) {
    if (this.kind === "sweep") return new Map([[this.#place(item.row), item.changes]]);
    const rows = this.#strip.items.map(({ row }) => row).filter((row) => row !== null);
    return new Map(rows.map((row) => [this.#place(row), { enabled: row !== item.row }]));
  }

  #isTaken(item) {
    const loras = this.desk.value("loras");
    return [...this.#wanted(item)].every(([at, changes]) => at >= 0 && Object.entries(changes).every(([name, value]) => loras[at][name] === value));
  }

  #take(item) {
    const before = this.desk.value("loras");
    const wanted = this.#wanted(item);
    const name = item.row === null ? "" : this.#rows[item.row].name;
    if (item.row !== null && this.#place(item.row) < 0) {
      toast(say("strip.gone", { name }));
      return;
    }
    const changed = this.desk.change({ loras: before.map((choice, at) => ({ ...choice, ...wanted.get(at) })) });
    const words = item.row === null ? say("strip.all") : this.kind === "sweep" ? say("strip.taken", { name, strength: item.changes.weight }) : say("strip.muted", { name });
    toast(words, changed ? { words: say("diff.undo"), act: () => this.desk.change({ loras: before }) } : null);
  }

  #walk(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const made = this.#tiles.map(({ take }) => take).filter((take) => !take.disabled);
    const next = made[made.indexOf(event.target.closest("button")) + by];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
