// Create, History, Library and Check: places of one page, one shown at a time.

const NAMES = ["create", "history", "library", "check"];

export class Places extends EventTarget {
  constructor(root) {
    super();
    this.root = root;
    this.tabs = NAMES.map((name) => root.querySelector(`#to-${name}`));
    for (const [at, tab] of this.tabs.entries()) {
      tab.addEventListener("click", () => this.go(NAMES[at]));
      tab.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: NAMES.length - 1 }[event.key];
        if (!by) return;
        const other = NAMES[(at + by) % NAMES.length];
        this.go(other);
        root.querySelector(`#to-${other}`).focus();
      });
    }
    addEventListener("hashchange", () => this.#follow());
    this.#follow();
  }

  /** Shows one of them. */
  go(name) {
    history.replaceState(null, "", name === "create" ? location.pathname + location.search : `#${name}`);
    this.#show(name);
  }

  #follow() {
    const name = location.hash.slice(1);
    this.#show(NAMES.includes(name) ? name : "create");
  }

  #show(name) {
    this.current = name;
    for (const [at, tab] of this.tabs.entries()) {
      const here = NAMES[at] === name;
      tab.setAttribute("aria-selected", String(here));
      tab.tabIndex = here ? 0 : -1;
      this.root.querySelector(`#${NAMES[at]}`).hidden = !here;
    }
    document.body.dataset.place = name;
    this.dispatchEvent(new Event("go"));
  }
}
