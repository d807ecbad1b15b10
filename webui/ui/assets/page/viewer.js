// The picture, how it is going, and the pictures of this session.

import { arrange, ask, button, el, setText } from "./dom.js";
import { say } from "./texts.js";

const CHOSEN = "easel.picture";

export class Viewer {
  constructor(root, desk, job, engine) {
    this.root = root;
    this.desk = desk;
    this.job = job;
    this.engine = engine;
    this.pictures = [];
    this.chosen = sessionStorage.getItem(CHOSEN);
    this.find = (selector) => root.querySelector(selector);
    this.large = this.find(".large");
    this.#listen();
    this.refresh();
  }

  /** The saved picture that is shown large, if there is one. */
  get picture() {
    return this.pictures.find((picture) => picture.id === this.chosen) ?? this.pictures[0];
  }

  /** Asks for the session's pictures. */
  async refresh() {
    try {
      this.pictures = (await ask("pictures")).pictures;
    } catch {
      return; // The line about the engine tells of a server that does not answer.
    }
    this.draw();
  }

  draw() {
    this.#drawPicture();
    this.#drawProgress();
    this.#drawStrip();
  }

  #listen() {
    const light = this.find(".light");
    this.job.addEventListener("saved", () => {
      const { latest } = this.job.view;
      this.#choose(latest.id);
      // Shown at once: until the list is there, an earlier picture would be in its place.
      if (this.picture?.id !== latest.id) this.pictures = [latest, ...this.pictures];
      this.refresh();
    });
    this.job.addEventListener("view", () => {
      if (this.job.busy && !this.wasBusy) this.watching = true;
      this.wasBusy = this.job.busy;
      this.draw();
    });
    this.engine.addEventListener("status", () => this.job.view.waiting && this.#drawProgress());
    this.large.addEventListener("click", () => {
      light.firstElementChild.src = this.picture.url;
      light.firstElementChild.alt = this.large.firstElementChild.alt;
      light.showModal();
    });
    light.addEventListener("click", () => light.close());
    this.find(".strip").addEventListener("keydown", (event) => this.#walk(event));
    this.desk.addEventListener("reuse-seed", () => this.picture && this.desk.change({ seed: this.picture.seed }));
  }

  #choose(id) {
    this.chosen = id;
    sessionStorage.setItem(CHOSEN, id);
  }

  #drawPicture() {
    const { view } = this.job;
    const live = Boolean(this.watching && view.busy && view.preview);
    const { picture, large } = this;
    const source = live ? view.preview : picture?.url;
    this.find(".empty").hidden = Boolean(source);
    large.hidden = !source;
    large.disabled = live;
    large.classList.toggle("live", live);
    this.find(".caption").hidden = !picture || live;
    const image = large.firstElementChild;
    // A preview of what was then withheld does not stay behind in the page.
    if (!source) image.removeAttribute("src");
    if (!source) return;
    if (image.getAttribute("src") !== source) image.src = source;
    image.alt = live ? say("viewer.live") : picture.prompt || say("viewer.unnamed");
    large.style.setProperty("--w", live ? view.width : picture.width);
    large.style.setProperty("--h", live ? view.height : picture.height);
    if (!live) this.#drawCaption(picture);
  }

  #drawCaption(picture) {
    this.find(".facts").textContent = say("viewer.facts", picture);
    if (this.captioned === picture.id) return;
    this.captioned = picture.id;
    this.find(".deeds").replaceChildren(
      button(say("deed.seed"), () => this.desk.change({ seed: picture.seed }), { class: "link" }),
      ...(this.deeds?.(picture) ?? []),
      el("a", { href: picture.url, download: picture.name, class: "link" }, say("deed.save")),
    );
  }

  #drawProgress() {
    const { view, stopping } = this.job;
    const track = this.find(".track");
    track.style.setProperty("--done", view.progress);
    track.setAttribute("aria-valuenow", Math.round(100 * view.progress));
    const waits = view.waiting && !this.engine.ready && this.engine.message;
    const line = stopping ? say("job.stopping") : waits ? say("job.engine", { engine: this.engine.message }) : view.headline;
    setText(this.find(".headline"), line);
    setText(this.find(".stages"), view.stages);
    setText(this.find(".memory"), view.memory);
    this.#drawNotices(view.notices);
  }

  #drawNotices(notices) {
    const lines = this.find(".notices");
    // Told anew only when they change: a screen reader reads what is set.
    const same = notices.length === lines.children.length && notices.every((words, at) => lines.children[at].textContent === words);
    if (!same) lines.replaceChildren(...notices.map((words) => el("p", {}, words)));
  }

  #drawStrip() {
    const strip = this.find(".strip");
    const known = new Map([...strip.children].map((item) => [item.dataset.id, item]));
    const shown = this.picture?.id;
    const items = this.pictures.map((picture) => {
      const item = known.get(picture.id) ?? this.#tile(picture);
      item.firstElementChild.setAttribute("aria-pressed", String(picture.id === shown));
      return item;
    });
    arrange(strip, items);
  }

  #tile(picture) {
    const image = el("img", { src: picture.thumbnail, alt: picture.prompt || say("viewer.unnamed"), loading: "lazy", decoding: "async" });
    const item = el("li", {}, button(image, () => { this.#choose(picture.id); this.watching = false; this.draw(); }));
    item.dataset.id = picture.id;
    image.addEventListener("error", () => item.remove());
    return item;
  }

  #walk(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const item = event.target.closest("li");
    if (!by || !item) return;
    event.preventDefault();
    const next = by > 0 ? item.nextElementSibling : item.previousElementSibling;
    next?.firstElementChild.focus();
    next?.firstElementChild.click();
  }
}
