// What a preset or a picture would change on the page, to be taken or left field by field.

import { DiffTable } from "./difftable.js";
import { ask, button, el, toast } from "./dom.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";

/** The table of differences between the page's recipe and another one. */
export class Differences extends EventTarget {
  #asking = null;

  constructor(desk, look, head) {
    super();
    this.desk = desk;
    this.look = look;
    this.table = new DiffTable([say("diff.now"), head], (row, wanted) => this.#useless(row, wanted));
    this.table.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    this.same = el("p", { class: "same", hidden: true }, say("diff.same"));
    this.element = el("div", {}, this.same, this.table.element);
    this.clear();
  }

  /** How many fields are ticked. */
  get taken() {
    return this.table.taken.length;
  }

  get usable() {
    return this.table.usable;
  }

  clear() {
    this.#asking?.abort();
    this.then = null;
    this.same.hidden = true;
    this.table.show([]);
    this.table.element.hidden = true;
  }

  /** Draws what `then` would change. With `literal` it is a finished picture's: `{prompt}` is text. */
  async show(then, { literal = false } = {}) {
    this.clear();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    // What has no use is told by the models' facts, for which a picture may be dropped too early.
    const [{ differences }] = await Promise.all([compared(this.desk, { then, literal }, signal), this.look.known]);
    if (signal.aborted) return;
    Object.assign(this, { then, literal });
    this.table.show(differences.map((row) => ({ ...row, ...this.#wish(row) })));
    this.table.element.hidden = !differences.length;
    this.same.hidden = Boolean(differences.length);
  }

  /** Takes over what is ticked, as one change; a message offers to take it back. */
  async apply(words) {
    const fields = this.table.taken;
    const { request } = await repaired(this.desk, (now) => ask("presets/apply", { method: "POST", json: { now, then: this.then, fields, literal: this.literal } }));
    const before = pick(this.desk.request, fields);
    this.desk.change(pick(request, fields));
    toast(words, { words: say("diff.undo"), act: () => this.desk.change(before) });
  }

  #wish(row) {
    const missing = row.field === "model" && this.look.models.length > 0 && !this.look.models.some((model) => model.name === row.then);
    return { wanted: !missing, note: missing ? say("diff.missing") : "" };
  }

  /** Why a field would be of no use on this page. */
  #useless(row, wanted) {
    if (!(row.field in this.desk.defaults)) return say("diff.unknown");
    const name = wanted("model") ? this.then.model : this.desk.value("model");
    const model = this.look.models.find((one) => one.name === name);
    return model?.hidden?.includes(row.field) ? say("diff.hidden") : "";
  }
}

/**
 * Makes the sheet of differences. It gives a function that opens it over a recipe:
 * `{title, request, report = [], picture = null, other = null, head}`, where `picture` is the address
 * of one to show, `other` what else can be done with it, in `words` and by `act`, and `head` stands
 * over its values.
 */
export function makeCompare(desk, look) {
  const sheet = new Sheet("comparison", "");
  const differences = new Differences(desk, look, say("diff.picture"));
  const picture = el("img", { alt: "", hidden: true });
  const report = el("div", { class: "report", hidden: true });
  const apply = button("", () => take(), { class: "primary" });
  const otherwise = el("span", { class: "otherwise" });
  sheet.body.append(el("div", { class: "beside" }, picture, report), differences.element);
  sheet.footer.append(otherwise, button(say("diff.cancel"), () => sheet.close()), apply);
  differences.addEventListener("change", () => labelApply(apply, differences));

  let showing = null;
  const take = async () => {
    await showing;
    if (!differences.taken) return;
    const done = await sheet.attempt(async () => { await differences.apply(say("diff.applied")); return true; });
    if (done) sheet.close();
  };
  sheet.onEnter(take);
  return async ({ title, request, report: sentences = [], picture: address = null, other = null, head = say("diff.picture") }) => {
    differences.table.heads = [say("diff.now"), head];
    sheet.title.textContent = title;
    otherwise.replaceChildren(...(other ? [button(other.words, () => { sheet.close(); other.act(); })] : []));
    picture.hidden = !address;
    if (address) picture.src = address;
    report.hidden = !sentences.length;
    report.replaceChildren(el("h3", {}, say("diff.report")), el("ul", {}, ...sentences.map((sentence) => el("li", {}, sentence))));
    differences.clear();
    sheet.open();
    showing = sheet.attempt(() => differences.show(request, { literal: true }));
    await showing;
    if (!apply.disabled) apply.focus();
  };
}

/** A button that compares a saved picture of this session with the page. */
export function whyDifferent(picture, compare) {
  const open = async () => {
    try {
      const { request, report } = await ask(`pictures/${picture.id}/recipe`);
      await compare({ title: say("diff.why.title"), request, report, picture: picture.thumbnail });
    } catch (problem) {
      toast(problem.message);
    }
  };
  return button(say("diff.why"), open, { class: "link" });
}

/** Words for the button that takes over: how many of how many. */
export function labelApply(apply, differences) {
  const { taken, usable } = differences;
  apply.disabled = !taken;
  apply.textContent = taken && taken < usable ? say("diff.apply.some", { n: taken, of: usable }) : say("diff.apply");
}

/** What differs, the page's unreadable values among it. */
export async function compared(desk, { then, literal = false }, signal) {
  const mistaken = [];
  const found = await repaired(desk, (now) => ask("presets/differences", { method: "POST", json: { now, then, literal }, signal }), mistaken);
  const listed = new Set(found.differences.map((row) => row.field));
  const fields = desk.fields.filter((field) => mistaken.includes(field.name) && field.name in then && !listed.has(field.name));
  const rows = fields.map((field) => ({ field: field.name, group: field.group, then: then[field.name] }));
  return { differences: [...found.differences, ...rows].map((row) => (mistaken.includes(row.field) ? { ...row, now: desk.value(row.field) } : row)) };
}

/** Asks with the page's recipe; what cannot be read in it counts as not touched, and is named in `mistaken`. */
async function repaired(desk, question, mistaken = []) {
  const now = desk.request;
  for (;;) {
    try {
      return await question(now);
    } catch (problem) {
      if (!(problem.field in desk.defaults) || mistaken.includes(problem.field)) throw problem;
      mistaken.push(problem.field);
      now[problem.field] = desk.defaults[problem.field];
    }
  }
}

function pick(request, fields) {
  return Object.fromEntries(fields.map((field) => [field, request[field]]));
}
