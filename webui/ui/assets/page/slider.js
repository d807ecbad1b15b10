// Sliders whose track is filled up to where they stand, and numbers with one beside them.

import { el } from "./dom.js";

/**
 * A slider from `low` to `high` in steps of `step`, or of `fine` while Shift is held; where zero lies
 * within, the track is filled from there. Gives its element and `set`, which shows a value.
 */
export function range({ low, high, step, fine = step, ...attributes }, changed) {
  // A range counts its steps from its least value: that has to be a round one.
  const least = Math.ceil(low / step) * step;
  const share = (value) => (Math.min(high, Math.max(low, value)) - low) / (high - low);
  const zero = low < 0 ? share(0) : 0;
  let shift = false;
  const paint = () => {
    const done = share(Number(element.value));
    element.style.setProperty("--from", Math.min(zero, done));
    element.style.setProperty("--done", Math.max(zero, done));
  };
  const element = el("input", {
    type: "range", min: String(least), max: String(high), step: String(fine), ...attributes,
    onpointermove: (event) => { shift = event.shiftKey; },
    onkeydown: (event) => {
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!by || fine === step) return;
      event.preventDefault();
      const size = event.shiftKey ? fine : step;
      move(Math.min(high, Math.max(low, rounded(Number(element.value) + by * size, size))));
    },
    oninput: () => move(shift ? Number(element.value) : rounded(Number(element.value), step)),
  });
  const move = (value) => { set(value); changed(value); };
  const set = (value) => { element.value = String(value); paint(); };
  return { element, set };
}

function rounded(value, step) {
  return Number((Math.round(value / step) * step).toFixed(6));
}

/**
 * A label, a number box and a slider for one value. The box takes what `least` and `most` allow,
 * which may be more than the slider reaches; left empty it means null where `empty` names that.
 * Gives its element and `set`, which shows a value and takes where the slider rests at null.
 */
export function numberRow({ label, low, high, least = low, most = high, step, fine = step, empty = null }, changed) {
  const id = `number-${numbered++}`;
  const box = el("input", {
    type: "number", id, inputmode: "decimal", min: String(least), max: String(most), step: "any", autocomplete: "off", placeholder: empty ?? "",
    oninput: () => {
      if (box.value === "" && empty === null) return;
      if (!box.checkValidity()) return;
      const value = box.value === "" ? null : Number(box.value);
      slider.set(value ?? resting);
      shown = value;
      changed(value);
    },
    // What could not be read is not left standing as if it were in force.
    onblur: () => set(shown, resting),
  });
  const slider = range({ low, high, step, fine, "aria-label": label }, (value) => { shown = value; box.value = String(value); changed(value); });
  let shown = null;
  let resting = 0;
  const set = (value, rest) => {
    // Half a number that is being typed is not written over by what is in force already.
    const typing = document.activeElement === box && value === shown;
    shown = value;
    resting = rest;
    if (!typing) box.value = value === null ? "" : String(value);
    slider.set(value ?? resting);
  };
  const element = el("div", { class: "number-row" }, el("label", { for: id }, label), box, slider.element);
  return { element, set: (value, rest = 0) => set(value, rest) };
}

/** A `numberRow` in percent for a share from `low` to `high` of 1. */
export function shareRow(label, low, high, changed) {
  const row = numberRow({ label, low: 100 * low, high: 100 * high, step: 5, fine: 1 }, (value) => changed(value / 100));
  return { element: row.element, set: (share) => row.set(Number((100 * share).toFixed(2))) };
}

let numbered = 0;
