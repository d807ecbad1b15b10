// What there is to steer the chosen model by: ControlNets, and the preprocessors that can run here.

import { ask } from "./dom.js";

export class ControlShelf extends EventTarget {
  #asking = null;

  /** `place` is the folder for ControlNets, `own` the kinds of hints that the model reads itself, if it does; the rest is empty until it is known. */
  constructor() {
    super();
    this.known = false;
    Object.assign(this, { place: "", own: null, nets: [], kinds: {}, preprocessors: {} });
  }

  /** Asks what there is for a model now. */
  async refresh(model) {
    this.#asking?.abort();
    this.#asking = new AbortController();
    try {
      const answer = await ask(`controlnets?model=${encodeURIComponent(model)}`, { signal: this.#asking.signal });
      Object.assign(this, answer, { known: true });
    } catch {
      return; // A later asking; or the model's own problem, or a server that is gone, which others tell of.
    }
    this.dispatchEvent(new Event("change"));
  }

  /** Whether anything steers the model: a ControlNet, or the model itself. */
  get any() {
    return this.nets.some((net) => !net.problem) || Object.values(this.kinds).some(({ net }) => net);
  }

  /** The ControlNet that is taken for a kind by itself, if there is one. */
  usual(kind) {
    return this.kinds[kind]?.net ?? null;
  }

  /** Whether a unit's value has an effect: a model that reads its hint itself follows it whole, in every step. */
  uses(name) {
    return !this.own || !["model", "weight", "start", "end"].includes(name);
  }

  /** Names of the preprocessors of a kind, the usual one first. */
  preprocessorsOf(kind) {
    return this.kinds[kind]?.preprocessors ?? [];
  }

  /** What draws the hint of a unit; a pose needs nothing to. */
  drawnBy(unit) {
    if (unit.pose) return "none";
    return unit.preprocessor ?? this.preprocessorsOf(unit.kind)[0] ?? "none";
  }

  /** What a preprocessor lacks, in a sentence that says what to put where; else empty. */
  missing(preprocessor) {
    return this.preprocessors[preprocessor]?.missing ?? "";
  }

  thresholds(preprocessor) {
    return this.preprocessors[preprocessor]?.thresholds ?? null;
  }

  /** The kind for a new picture: the first that can be steered by, and drawn here, at once. */
  get kindOfPicture() {
    const kinds = Object.keys(this.kinds).filter((kind) => this.usual(kind));
    return kinds.find((kind) => !this.missing(this.preprocessorsOf(kind)[0])) ?? kinds[0] ?? "canny";
  }
}
