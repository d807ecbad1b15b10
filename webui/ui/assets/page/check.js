// The place where a picture is checked: what its file tells about how it was made, and what is certain.

import { layersOf, verdictOf } from "./checkrows.js";
import { ask, button, el, icon, toast } from "./dom.js";
import { say } from "./texts.js";

const KINDS = "image/png,image/jpeg,image/webp";

/** Builds the place. `read` is given a file whose recipe is wanted on the page of `places`. */
export class Check {
  #looking = 0;

  constructor(root, places, read) {
    Object.assign(this, { root, places, read });
    this.chooser = el("input", { type: "file", accept: KINDS, hidden: true, onchange: () => { const [file] = this.chooser.files; this.chooser.value = ""; if (file) this.look(file); } });
    const choose = (key, attributes) => button(say(key), () => this.chooser.click(), attributes);
    this.problem = el("p", { class: "problem", role: "alert" });
    this.state = el("p", { class: "unseen", role: "status" });
    this.ask = el("div", { class: "check-ask" },
      icon("sealed"), el("h2", {}, say("check.title")), el("p", {}, say("check.ask")),
      choose("check.choose", { class: "primary" }), this.problem, el("p", { class: "quietly" }, say("check.private")));
    this.picture = el("img", { alt: say("check.preview") });
    this.facts = el("p", { class: "quietly" });
    this.verdict = el("div", { class: "verdict", tabindex: "-1" });
    this.layers = el("dl", { class: "layers" });
    this.troubles = el("div", { class: "report", hidden: true });
    this.found = el("div", { class: "checked", hidden: true },
      el("div", { class: "check-picture" }, el("figure", { class: "check-mat" }, this.picture), this.facts, choose("check.again", {})),
      el("div", { class: "findings" }, this.verdict, this.layers, this.troubles, el("p", { class: "quietly" }, say("check.certain"))));
    root.append(this.chooser, this.state, this.ask, this.found);
  }

  /** Whether pictures that are dropped or pasted are to be checked. */
  get here() {
    return this.places.current === "check";
  }

  /** Goes there with one of the page's own pictures, which is looked at as it was saved. */
  async own({ url, name }) {
    this.places.go("check");
    try {
      const answer = await fetch(url, { cache: "no-store" });
      if (!answer.ok) throw new Error((await answer.json()).message);
      await this.look(new File([await answer.blob()], name));
    } catch (problem) {
      toast(problem.message);
    }
  }

  /** Looks at a file and shows what is found. */
  async look(file) {
    const looking = ++this.#looking;
    this.problem.textContent = "";
    this.root.classList.add("looking");
    this.state.textContent = say("check.looking", { name: file.name });
    try {
      const found = await ask("verify", { method: "POST", body: file });
      if (looking === this.#looking) this.#show(file, found);
    } catch (problem) {
      if (looking === this.#looking) this.#refuse(problem.message);
    }
    if (looking === this.#looking) this.root.classList.remove("looking");
  }

  #refuse(sentence) {
    this.state.textContent = "";
    this.found.hidden = true;
    this.ask.hidden = false;
    this.problem.textContent = sentence;
  }

  #show(file, found) {
    if (this.address) URL.revokeObjectURL(this.address);
    // Its kind is what the server found, not what its name or the browser's guess says.
    this.address = URL.createObjectURL(new Blob([file], { type: `image/${found.kind.toLowerCase()}` }));
    this.picture.src = this.address;
    this.facts.replaceChildren(el("b", {}, file.name), el("span", {}, say("check.facts", found)), el("code", { title: found.sha256 }, `SHA-256 ${found.sha256.slice(0, 16)}…`));
    const { tone, sign, sentence, meaning } = verdictOf(found);
    this.verdict.dataset.tone = tone;
    this.verdict.dataset.verdict = found.verdict;
    this.verdict.replaceChildren(icon(sign), el("div", {}, el("h2", {}, sentence), el("p", {}, meaning)));
    const use = button(say("check.use"), () => { this.places.go("create"); this.read(file); });
    this.layers.replaceChildren(...layersOf(found).map((layer) => row(layer, layer.name === "recipe" && found.recipe ? use : null)));
    this.troubles.hidden = !found.troubles.length;
    this.troubles.replaceChildren(el("h3", {}, say("check.troubles")), el("ul", {}, ...found.troubles.map((trouble) => el("li", {}, trouble))));
    this.ask.hidden = true;
    this.found.hidden = false;
    this.state.textContent = sentence;
    this.verdict.focus({ preventScroll: true });
    this.root.scrollIntoView({ block: "nearest" });
  }
}

function row({ name, state, tone, lines }, deed) {
  return el("div", { class: "layer", "data-layer": name },
    el("dt", {}, el("b", {}, say(`check.layer.${name}`)), el("span", {}, say(`check.about.${name}`))),
    el("dd", { class: "state", "data-tone": tone }, say(`check.state.${state}`)),
    el("dd", { class: "says" }, ...lines.map((line) => el("p", {}, line)), deed));
}
