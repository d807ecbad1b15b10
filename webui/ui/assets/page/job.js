// The tab's job: asked for, stopped, found again after a reload. The views come from ui/view.py.

import { currentLanguage } from "./texts.js";

const TAB = "easel.tab";
const IDLE = { job: null, busy: false, waiting: false, headline: "", stages: "", memory: "", progress: 0, notices: [], preview: null, saved: 0, latest: null, loras: [], stack: null, hints: {}, problem: null };

export class Job extends EventTarget {
  #channel;
  #ask = 0;
  #last = "";
  #named;

  constructor({ props, watch, generate, resume, stop }, desk, standing) {
    super();
    this.view = IDLE;
    this.stopping = false;
    this.desk = desk;
    this.standing = standing;
    this.#named = ownTab().then((tab) => { this.tab = tab; });
    this.#channel = { generate, resume, stop };
    watch("value", () => this.#receive(props.value));
  }

  get busy() {
    return this.view.busy;
  }

  /** What the last job failed by, as long as the recipe is what that job was asked with. */
  get problem() {
    return this.#last === JSON.stringify(this.desk.request) ? this.view.problem : null;
  }

  /** Finds the unfinished job of this tab, or one whose tab is gone. */
  async resume() {
    await this.#named;
    if (this.busy) return;
    this.#channel.resume(this.#asked(true));
  }

  async generate() {
    if (this.busy) return;
    this.view = { ...IDLE, busy: true, waiting: true, latest: this.view.latest, notices: [] };
    this.#tell();
    await this.#named;
    const { request } = this.desk;
    this.#last = JSON.stringify(request);
    // Beside the request, never in it: a recipe carries no level.
    this.#channel.generate({ ...this.#asked(true), request, level: this.standing.level });
  }

  stop() {
    if (!this.busy || this.stopping) return;
    this.stopping = true;
    this.#tell();
    this.#channel.stop(this.#asked());
  }

  /** The server is gone: there is nothing to wait for. */
  lose() {
    this.stopping = false;
    this.view = { ...this.view, busy: false, waiting: false, headline: "", stages: "" };
    this.#tell();
  }

  /** What goes along with an event. An answer to anything but the last asking is not drawn. */
  #asked(anew = false) {
    if (anew) this.#ask += 1;
    return { tab: this.tab, language: currentLanguage(), ask: this.#ask };
  }

  #receive(view) {
    if (view?.ask !== this.#ask) return;
    const known = this.view;
    this.view = view.job || view.problem ? view : { ...view, latest: known.latest };
    if (!view.busy) this.stopping = false;
    // The first asking may have come before the job was known.
    if (this.stopping) this.#channel.stop(this.#asked());
    if (view.asked && !this.desk.restored) this.desk.change(view.asked);
    if (view.saved && (view.saved !== known.saved || view.job !== known.job)) this.dispatchEvent(new Event("saved"));
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("view"));
  }
}

/** This tab's name. It outlives a reload; a duplicated tab is given another one. */
async function ownTab() {
  const channel = new BroadcastChannel(TAB);
  const mine = sessionStorage.getItem(TAB) ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
  const taken = await new Promise((settle) => {
    channel.onmessage = ({ data }) => data.taken === mine && settle(true);
    channel.postMessage({ whose: mine });
    setTimeout(() => settle(false), sessionStorage.getItem(TAB) ? 80 : 0);
  });
  const tab = taken ? crypto.getRandomValues(new Uint32Array(4)).join("-") : mine;
  channel.onmessage = ({ data }) => data.whose === tab && channel.postMessage({ taken: tab });
  sessionStorage.setItem(TAB, tab);
  return tab;
}
