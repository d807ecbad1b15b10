// Where each picture stands: rows of one height that fill the width, a heading before each day.

const HEADING = 46;
const NARROWEST = 0.5;
const WIDEST = 2.4;

/** Sizes in CSS pixels for a grid that wide: the distance between pictures, and a row's height. */
export function measures(width) {
  const gap = width < 600 ? 4 : 8;
  const wanted = width < 600 ? 124 : 190;
  const columns = Math.max(2, Math.round((width + gap) / (wanted + gap)));
  return { gap, height: (width - gap * (columns - 1)) / columns };
}

/**
 * Rows of `{top, height, day}` for headings and `{top, height, tiles}` for pictures, each tile
 * `{at, left, width}` with `at` counting the items; for each item the row it is in; and the height
 * of all of them.
 */
export function layOut(items, width) {
  const { gap, height } = measures(width);
  const rows = [];
  const places = [];
  let top = 0;
  let day = null;
  let open = [];
  const close = (full) => {
    if (!open.length) return;
    const shapes = open.reduce((sum, { shape }) => sum + shape, 0);
    const tall = full ? (width - gap * (open.length - 1)) / shapes : height;
    let left = 0;
    const tiles = open.map(({ at, shape }) => {
      const tile = { at, left, width: tall * shape };
      left += tile.width + gap;
      places[at] = rows.length;
      return tile;
    });
    rows.push({ top, height: tall, tiles });
    top += tall + gap;
    open = [];
  };
  for (const [at, item] of items.entries()) {
    if (dayOf(item) !== day) {
      close(false);
      day = dayOf(item);
      rows.push({ top, height: HEADING, day });
      top += HEADING;
    }
    open.push({ at, shape: shapeOf(item) });
    const shapes = open.reduce((sum, { shape }) => sum + shape, 0);
    // Half a pixel of room: rows of squares come out at exactly the width.
    if (shapes * height + gap * (open.length - 1) > width - 0.5) close(true);
  }
  close(false);
  return { rows, places, height: top };
}

/** The first row that ends below `top`. */
export function rowAt(rows, top) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height > top) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Width by height, within bounds; a square where it is not known. */
function shapeOf({ width, height }) {
  return width && height ? Math.min(WIDEST, Math.max(NARROWEST, width / height)) : 1;
}

function dayOf(item) {
  return item.made.slice(0, 10);
}
