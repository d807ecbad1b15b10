// A picture brought in that the recipe names: its image, as soon as it is there.

export class Brought extends EventTarget {
  /** Follows the field `name` of the recipe; an event "change" tells of an image that came or went. */
  constructor(desk, name) {
    super();
    this.name = name;
    this.desk = desk;
    this.id = null;
    this.image = null;
    this.gone = false;
    this.ready = this.#load();
    desk.addEventListener("change", ({ detail }) => {
      if (detail.names.includes(name) && desk.value(name) !== this.id) this.ready = this.#load();
    });
  }

  get address() {
    return this.id && `uploads/${encodeURIComponent(this.id)}.png`;
  }

  /** In pixels, or null while it is not known. */
  get size() {
    return this.image && { width: this.image.naturalWidth, height: this.image.naturalHeight };
  }

  async #load() {
    const id = this.desk.value(this.name);
    Object.assign(this, { id, image: null, gone: false });
    this.dispatchEvent(new Event("change"));
    if (!id) return;
    const image = new Image();
    image.src = this.address;
    const there = await image.decode().then(() => true, () => false);
    if (this.id !== id) return;
    this.image = there ? image : null;
    this.gone = !there;
    this.dispatchEvent(new Event("change"));
  }
}
