// The panel of the picture to start from: what it is, what of it is made anew, and how strongly.

import { Brought } from "./brought.js";
import { button, el, icon } from "./dom.js";
import { follow, makeWidget } from "./fields.js";
import { placed } from "./fitting.js";
import { MaskEditor } from "./maskeditor.js";
import { Outpaint } from "./outpaint.js";
import { panel } from "./panel.js";
import { OF_THE_START, changeStart, fileChooser, startFrom, startWithout } from "./picturefield.js";
import { say } from "./texts.js";

const IN_SIGHT = ["strength", "inpaint_area", "inpaint_padding"];
const FOLDED = ["inpaint_fill", "mask_blur", "mask_grow", "soft_mask"];
const OTHER_SHAPE = 0.02; // As the engine has it: a mask whose shape is further off is refused.

export class StartPanel {
  #editor = null;
  #softly = null; // The id of the mask that was painted softly.

  /** `start` is the picture to start from (see brought.js). */
  constructor(root, desk, look, start) {
    Object.assign(this, { root, desk, look, start });
    this.mask = new Brought(desk, "mask");
    this.chooser = fileChooser((file) => this.from("", file));
    this.choose = button(say("init.choose"), () => this.chooser.click(), { class: "link", id: "input-init" });
    this.rows = panel(root, say("start.title"), [this.choose, this.chooser]);
    this.widgets = new Map([...IN_SIGHT, ...FOLDED].map((name) => [name, makeWidget(desk, desk.schema(name))]));
    follow(desk, this.widgets);
    this.#build();
    desk.addEventListener("change", ({ detail }) => detail.names.some((name) => name === "model" || name === "width" || name === "height" || OF_THE_START.includes(name)) && this.#draw());
    for (const one of [start, this.mask]) one.addEventListener("change", () => this.#draw());
    look.addEventListener("models", () => this.#draw());
    this.#draw();
  }

  /** Starts from a picture; `source` as `startFrom` has it. */
  from(source, body) {
    return startFrom(this.desk, source, body);
  }

  /** Starts from a picture and opens the canvas over it. */
  async repaint(source) {
    const brought = await this.from(source);
    if (brought) this.paint();
    return brought;
  }

  paint() {
    this.#editor ??= new MaskEditor(this.desk, this.start, this.mask, (softly) => { this.#softly = softly ? this.mask.id : null; this.#draw(); });
    this.#editor.open();
  }

  #build() {
    this.picture = el("img", { alt: say("init.picture") });
    this.tint = el("div", { class: "tint" });
    this.drawing = el("div", { class: "drawing" }, this.picture, this.tint);
    this.gone = el("p", { class: "remark", hidden: true }, say("start.gone"));
    const init = el("div", { class: "field middle", id: "field-init" }, this.drawing, this.gone);
    this.outpaint = new Outpaint(this.desk, this.start, init);
    this.size = el("span", { class: "size" });
    this.ownSize = button(say("start.own"), () => this.desk.change({ width: null, height: null }), { class: "link" });
    const remove = button(icon("close"), () => { startWithout(this.desk); this.choose.focus(); }, { class: "icon", "aria-label": say("init.remove"), title: say("init.remove") });
    this.painter = button("", () => this.paint(), { id: "input-mask" });
    this.unpaint = button(say("mask.remove"), () => changeStart(this.desk, { mask: null }, say("mask.removed")));
    this.continue = button(say("start.continue"), () => this.#unfold(), { "aria-controls": "field-outpaint" });
    this.told = el("p", { class: "remark", hidden: true });
    const mask = el("div", { class: "field", id: "field-mask" }, el("div", { class: "choices" }, this.painter, this.unpaint, this.continue), this.told);
    const row = (name) => this.widgets.get(name).row;
    this.fold = el("details", { class: "fold" }, el("summary", {}, say("start.fold")), el("div", { class: "folded" }, ...FOLDED.map(row)));
    // A recipe from elsewhere may name a part of a picture that it does not bring.
    this.alone = el("li", { class: "remark" }, say("start.alone"), " ", button(say("start.none"), () => startWithout(this.desk), { class: "link" }));
    this.parts = [
      el("li", {}, this.outpaint.element, el("div", { class: "facts" }, this.size, this.ownSize, remove)),
      el("li", {}, mask),
      ...IN_SIGHT.map((name) => el("li", {}, row(name))),
      el("li", {}, this.fold),
    ];
  }

  #unfold() {
    this.outpaint.open(!this.outpaint.opened || this.outpaint.any);
    this.#draw();
    if (this.outpaint.opened) document.getElementById("input-outpaint-left").focus();
  }

  #draw() {
    const { desk, look, start } = this;
    const set = Boolean(desk.value("init"));
    this.root.hidden = look.hidden.has("init") && !set;
    this.choose.textContent = say(set ? "init.other" : "init.choose");
    const masked = Boolean(desk.value("mask"));
    const parts = set ? this.parts : masked || this.outpaint.any ? [this.alone] : [];
    if (parts[0] !== this.rows.firstElementChild) this.rows.replaceChildren(...parts);
    if (!set) { this.outpaint.open(false); return; }
    const inPart = masked || this.outpaint.any;
    const shown = {
      inpaint_area: inPart, inpaint_padding: inPart && desk.value("inpaint_area") === "masked",
      soft_mask: masked || desk.value("soft_mask"),
    };
    for (const [name, { row }] of this.widgets) {
      const hidden = shown[name] === false || (look.hidden.has(name) && desk.value(name) === desk.defaults[name]);
      row.hidden = hidden;
      if (IN_SIGHT.includes(name)) row.parentElement.hidden = hidden;
    }
    this.fold.parentElement.hidden = !inPart;
    this.painter.textContent = say(masked ? "mask.change" : "mask.paint");
    this.painter.disabled = !start.size;
    this.unpaint.hidden = !masked;
    this.continue.setAttribute("aria-expanded", String(this.outpaint.opened));
    this.gone.hidden = !start.gone;
    this.outpaint.draw();
    this.#drawPicture();
    this.#tell();
  }

  /** The picture as it will lie within its margins, with what is made anew tinted. */
  #drawPicture() {
    const { desk, start, mask } = this;
    this.drawing.hidden = !start.size;
    this.size.textContent = start.size ? say("start.size", start.size) : "";
    this.ownSize.hidden = true;
    if (!start.size) return;
    const place = placed(desk.request, start.size, desk.schema("width").high);
    if (this.picture.getAttribute("src") !== start.address) this.picture.src = start.address;
    this.tint.hidden = !mask.image;
    this.tint.style.maskImage = mask.image ? `url("${mask.address}")` : "";
    const { inner, whole } = place ?? { inner: start.size, whole: start.size };
    const [left, top] = place ? desk.value("outpaint") : [0, 0];
    this.drawing.style.setProperty("--w", whole.width);
    this.drawing.style.setProperty("--h", whole.height);
    const share = (part, all) => `${(100 * part / all).toFixed(3)}%`;
    for (const layer of [this.picture, this.tint]) {
      Object.assign(layer.style, { left: share(left, whole.width), top: share(top, whole.height), width: share(inner.width, whole.width), height: share(inner.height, whole.height) });
    }
    if (whole.width === start.size.width && whole.height === start.size.height) return;
    this.size.textContent = say("start.becomes", { ...start.size, whole_width: whole.width, whole_height: whole.height });
    this.ownSize.hidden = desk.value("width") === null && desk.value("height") === null;
  }

  /** What is to be said about the mask, with what mends it. */
  #tell() {
    const { desk, start, mask } = this;
    const off = start.size && mask.size && Math.abs(Math.log((mask.size.width * start.size.height) / (mask.size.height * start.size.width))) > OTHER_SHAPE;
    const words = mask.gone ? "mask.gone" : off ? "mask.shape" : mask.id && this.#softly === mask.id && !desk.value("soft_mask") ? "mask.hard" : null;
    this.told.hidden = !words;
    if (!words) this.told.replaceChildren();
    else if (words === "mask.hard") this.told.replaceChildren(say(words), " ", button(say("mask.soften"), () => desk.change({ soft_mask: true }), { class: "link" }));
    else this.told.replaceChildren(say(words));
  }
}
