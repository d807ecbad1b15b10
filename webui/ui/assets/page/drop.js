// Recipes from outside: pictures, presets and infotext that are dropped, pasted or chosen.

import { ask, el, toast } from "./dom.js";
import { say } from "./texts.js";

const INFOTEXT = /(^|\n)Steps: \d+,[^\n]*\bSampler: /;

export class Drop {
  /**
   * `compare` opens the sheet of differences, `bringIn` adds the presets in files, `start` makes
   * a file's picture the one to start from, and `check` (see check.js) takes those that are for it.
   */
  constructor({ compare, bringIn, start, check }) {
    Object.assign(this, { compare, bringIn, start, check });
    this.zone = document.getElementById("drop");
    this.#listenToDrags();
    document.addEventListener("paste", (event) => this.#paste(event));
    this.chooser = el("input", { type: "file", accept: "image/png,image/jpeg,image/webp", hidden: true, onchange: () => { this.#take([...this.chooser.files]); this.chooser.value = ""; } });
    this.zone.before(this.chooser);
  }

  /** Lets a picture be chosen whose recipe is to be read. */
  choose() {
    this.chooser.click();
  }

  #listenToDrags() {
    // In the layer of the dialogs, over those that are open.
    this.zone.popover = "manual";
    this.zone.hidden = false;
    let entered = null;
    let own = false;
    const files = (event) => !own && event.dataTransfer?.types.includes("Files");
    const leave = () => { entered = null; this.zone.togglePopover(false); };
    document.addEventListener("dragstart", () => { own = true; });
    document.addEventListener("dragend", () => { own = false; });
    document.addEventListener("dragenter", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      entered = event.target;
      this.zone.firstElementChild.textContent = say(this.check.here ? "check.drop" : "drop.here");
      this.zone.togglePopover(true);
    });
    document.addEventListener("dragover", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    });
    // Entering the next element comes before leaving the last: whoever leaves that one leaves the page.
    document.addEventListener("dragleave", (event) => event.target === entered && leave());
    document.addEventListener("drop", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      leave();
      this.#take([...event.dataTransfer.files]);
    });
  }

  #paste(event) {
    const { clipboardData: board } = event;
    const pictures = [...(board?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    const text = board?.getData("text/plain") ?? "";
    if (pictures.length && !text) {
      event.preventDefault();
      if (this.check.here) this.check.look(pictures[0]);
      // Into a text goes what can be written: the picture's recipe. Elsewhere it is the picture itself.
      else if (event.target.closest?.("input, textarea, dialog")) this.#take(pictures);
      else this.start(pictures[0]);
    } else if (event.target.id === "input-prompt" && INFOTEXT.test(text)) {
      this.#offer(text, event.target);
    }
  }

  /** The text is pasted as any other; it is read when that is wanted, and the prompt is as it was. */
  #offer(text, box) {
    const before = box.value;
    const act = () => {
      box.focus();
      box.select();
      document.execCommand(before ? "insertText" : "delete", false, before);
      this.#read(ask("read/text", { method: "POST", json: { text } }));
    };
    toast(say("drop.infotext"), { words: say("drop.read"), act });
  }

  async #take(files) {
    const presets = files.filter((file) => /\.(json|csv)$/i.test(file.name));
    const picture = files.find((file) => !presets.includes(file));
    if (presets.length) await this.bringIn(presets);
    if (picture && this.check.here) await this.check.look(picture);
    else if (picture) await this.read(picture);
  }

  /** Shows what the recipe in a picture's file would change. */
  read(file) {
    return this.#read(ask("read", { method: "POST", body: file }), file);
  }

  async #read(answer, file = null) {
    try {
      const { source, request, report } = await answer;
      if (this.address) URL.revokeObjectURL(this.address);
      this.address = file && URL.createObjectURL(file);
      const title = file ? say(`drop.${source}`, { name: file.name }) : say("drop.pasted");
      await this.compare({ title, request, report, picture: this.address, other: this.#startWith(file) });
    } catch (problem) {
      toast(problem.message, this.#startWith(file));
    }
  }

  /** What else can be done with a picture than to read its recipe. */
  #startWith(file) {
    return file && { words: say("deed.init"), act: () => this.start(file) };
  }
}
