// Pictures brought in: from files, the clipboard, or from what was made here.

import { ask, el, toast } from "./dom.js";
import { say } from "./texts.js";

// Kinds of files that can be brought in, as a file chooser is told.
const PICTURES = "image/png,image/jpeg,image/webp,image/bmp,image/tiff";

/** Fields that say how a part of a picture is made anew. */
export const OF_A_MASK = ["mask_blur", "mask_grow", "soft_mask", "inpaint_area", "inpaint_padding", "inpaint_fill"];

/** Fields that are of no use without a picture to start from. */
export const OF_THE_START = ["init", "strength", "mask", "outpaint", ...OF_A_MASK];

/** Brings a picture in; `source` is a path below `uploads`, with a body for a file. Gives {id, width, height}. */
export function bringIn(source, body = undefined) {
  return ask(`uploads${source}`, { method: "POST", body });
}

/** Brings a picture in and makes it the one to start from. A mask and margins were another one's. */
export async function startFrom(desk, source, body = undefined) {
  try {
    const { id } = await bringIn(source, body);
    changeStart(desk, { init: id, mask: null, outpaint: desk.defaults.outpaint }, say("init.used"));
    return true;
  } catch (problem) {
    toast(problem.message);
    return false;
  }
}

/** Starts without a picture: all that is about it stands where it did before there was one. */
export function startWithout(desk) {
  changeStart(desk, Object.fromEntries(OF_THE_START.map((name) => [name, desk.defaults[name]])), say("init.removed"));
}

/** One change, with a message that offers to take it back. */
export function changeStart(desk, values, words) {
  const before = Object.fromEntries(Object.keys(values).map((name) => [name, desk.value(name)]));
  desk.change(values);
  toast(words, { words: say("diff.undo"), act: () => desk.change(before) });
}

/** A hidden chooser of one picture's file; `open` it by its click. */
export function fileChooser(chosen) {
  const chooser = el("input", {
    type: "file", accept: PICTURES, hidden: true,
    onchange: async () => { const [file] = chooser.files; chooser.value = ""; if (file) await chosen(file); },
  });
  return chooser;
}
