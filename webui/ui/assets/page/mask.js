// A mask's pixels: grey, 0 keeps and 255 repaints. It knows no canvas that is seen.
//
// What it was before is kept in tiles. A change copies those it touched, all others are shared by
// every state, and so are the empty and the full one: a stroke costs what it covers.

const TILE = 256;

/** Bytes that the tiles of some states take together. */
export function bytesOf(states) {
  return new Set(states.flatMap((state) => state.tiles)).size * TILE * TILE;
}

export class Mask {
  constructor(width, height) {
    Object.assign(this, { width, height, soft: false });
    this.now = new Uint8ClampedArray(width * height);
    this.before = new Uint8ClampedArray(width * height);
    this.stroke = new Uint8ClampedArray(width * height);
    this.across = Math.ceil(width / TILE);
    this.none = new Uint8ClampedArray(TILE * TILE);
    this.all = new Uint8ClampedArray(TILE * TILE).fill(255);
    this.tiles = new Array(this.across * Math.ceil(height / TILE)).fill(this.none);
    this.touched = null;
  }

  get empty() {
    return this.tiles.every((tile) => tile === this.none);
  }

  get state() {
    return { tiles: this.tiles, soft: this.soft };
  }

  get whole() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  /** Begins a stroke, which paints or erases. */
  begin(erase) {
    this.erase = erase;
    this.softening = false;
    this.touched = null;
  }

  /**
   * Leads the brush from one point to another. How strong it is at a pixel depends on the distance to
   * the line alone, so that going over it again, or slowly, makes a soft edge no harder. Gives the
   * box of what changed.
   */
  line(from, to, { radius, softness }) {
    const reach = radius + 0.5;
    const edge = Math.max(1, softness * radius);
    const core = Math.max(0, reach - edge) ** 2;
    const box = this.#within(Math.min(from.x, to.x) - reach, Math.min(from.y, to.y) - reach, Math.max(from.x, to.x) + reach, Math.max(from.y, to.y) + reach);
    const dx = to.x - from.x;
    const dy = to.y - from.y;
    const inverse = 1 / (dx * dx + dy * dy || 1);
    const { stroke, width } = this;
    for (let y = box.top; y < box.bottom; y++) {
      const py = y + 0.5 - from.y;
      for (let x = box.left; x < box.right; x++) {
        // Most of what a wide brush covers it has covered a moment before.
        if (stroke[y * width + x] === 255) continue;
        const px = x + 0.5 - from.x;
        const along = Math.max(0, Math.min(1, (px * dx + py * dy) * inverse));
        const away = (px - along * dx) ** 2 + (py - along * dy) ** 2;
        if (away >= reach * reach) continue;
        this.#put(y * width + x, away <= core ? 255 : smooth((reach - Math.sqrt(away)) / edge));
      }
    }
    if (softness > 0 && edge > 2) this.softening = true;
    return this.#touch(box);
  }

  /** Fills what the points go round. Gives the box of what changed. */
  area(points) {
    const xs = points.map((point) => point.x);
    const ys = points.map((point) => point.y);
    const box = this.#within(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
    const width = box.right - box.left;
    if (width < 1 || box.bottom - box.top < 1) return box;
    const canvas = Object.assign(document.createElement("canvas"), { width, height: box.bottom - box.top });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.beginPath();
    for (const { x, y } of points) context.lineTo(x - box.left, y - box.top);
    context.fill();
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length / 4; at++) {
      const row = Math.floor(at / width);
      this.#put((box.top + row) * this.width + box.left + at - row * width, data[4 * at + 3]);
    }
    return this.#touch(box);
  }

  /** Ends the stroke. Gives the state it left, or null where it changed nothing. */
  end() {
    const { state, touched } = this;
    this.#clearStroke();
    if (!touched || !this.#keep(touched)) return null;
    this.soft ||= this.softening && !this.erase;
    return state;
  }

  /** Takes the begun stroke back. Gives the box of what changed, or null. */
  giveUp() {
    const { touched } = this;
    this.#clearStroke();
    if (touched) this.#rows(touched, (start, end) => this.now.set(this.before.subarray(start, end), start));
    return touched;
  }

  /** Sets every pixel by what it is. Gives the state it left, or null where it changed nothing. */
  map(change) {
    const { state } = this;
    for (let at = 0; at < this.now.length; at++) this.now[at] = change(this.now[at]);
    if (!this.#keep(this.whole)) return null;
    if (this.empty) this.soft = false;
    return state;
  }

  /** Brings a state back. */
  restore({ tiles, soft }) {
    this.soft = soft;
    for (const [at, tile] of tiles.entries()) {
      if (tile === this.tiles[at]) continue;
      const box = this.#boxOf(at);
      this.#rows(box, (start, end, y) => {
        const row = tile.subarray((y - box.top) * TILE, (y - box.top) * TILE + end - start);
        this.now.set(row, start);
        this.before.set(row, start);
      });
    }
    this.tiles = tiles;
  }

  /** Takes the grey of a picture, brought to the mask's size. */
  load(image) {
    const context = sheetOf(this.width, this.height);
    context.drawImage(image, 0, 0, this.width, this.height);
    const { data } = context.getImageData(0, 0, this.width, this.height);
    for (let at = 0; at < this.now.length; at++) this.now[at] = data[4 * at];
    this.#keep(this.whole);
  }

  /** A PNG file of it. */
  toBlob() {
    const context = sheetOf(this.width, this.height);
    const picture = context.createImageData(this.width, this.height);
    for (let at = 0; at < this.now.length; at++) {
      picture.data.fill(this.now[at], 4 * at, 4 * at + 3);
      picture.data[4 * at + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    return new Promise((settle) => context.canvas.toBlob(settle, "image/png"));
  }

  #put(at, share) {
    if (share <= this.stroke[at]) return;
    this.stroke[at] = share;
    this.now[at] = this.erase ? Math.min(this.before[at], 255 - share) : Math.max(this.before[at], share);
  }

  #touch(box) {
    const { touched } = this;
    this.touched = touched ? united(touched, box) : box;
    return box;
  }

  #clearStroke() {
    if (this.touched) this.#rows(this.touched, (start, end) => this.stroke.fill(0, start, end));
    this.touched = null;
  }

  /** Takes what is painted now as the mask; tells whether that made a difference. */
  #keep(box) {
    const tiles = [...this.tiles];
    for (let at = 0; at < tiles.length; at++) {
      const place = this.#boxOf(at);
      if (place.left < box.right && place.right > box.left && place.top < box.bottom && place.bottom > box.top) tiles[at] = this.#tile(place, tiles[at]);
    }
    this.#rows(box, (start, end) => this.before.set(this.now.subarray(start, end), start));
    const changed = tiles.some((tile, at) => tile !== this.tiles[at]);
    this.tiles = tiles;
    return changed;
  }

  /** A copy of that part, or the known tile that is like it. */
  #tile(place, known) {
    const copy = new Uint8ClampedArray(TILE * TILE);
    const alike = { known: true, none: true, all: true };
    this.#rows(place, (start, end, y) => {
      const at = (y - place.top) * TILE;
      copy.set(this.now.subarray(start, end), at);
      for (let x = 0; x < end - start; x++) {
        const value = copy[at + x];
        if (value !== known[at + x]) alike.known = false;
        if (value !== 0) alike.none = false;
        if (value !== 255) alike.all = false;
      }
    });
    if (alike.known) return known;
    return alike.none ? this.none : alike.all ? this.all : copy;
  }

  #boxOf(tile) {
    const left = (tile % this.across) * TILE;
    const top = Math.floor(tile / this.across) * TILE;
    return { left, top, right: Math.min(left + TILE, this.width), bottom: Math.min(top + TILE, this.height) };
  }

  #within(left, top, right, bottom) {
    const whole = (value, most) => Math.max(0, Math.min(most, value));
    return { left: whole(Math.floor(left), this.width), top: whole(Math.floor(top), this.height), right: whole(Math.ceil(right), this.width), bottom: whole(Math.ceil(bottom), this.height) };
  }

  #rows(box, work) {
    for (let y = box.top; y < box.bottom; y++) work(y * this.width + box.left, y * this.width + box.right, y);
  }
}

/** The smallest box that holds both. */
export function united(a, b) {
  return { left: Math.min(a.left, b.left), top: Math.min(a.top, b.top), right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom) };
}

function smooth(share) {
  return 255 * share * share * (3 - 2 * share);
}

function sheetOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
}
