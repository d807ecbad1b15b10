// The picture to start from: brought in from a file, or one that was made here.

import { ask, button, el, icon, toast } from "./dom.js";
import { say } from "./texts.js";

/** Brings a picture in and makes it the init picture; `source` is a path below `uploads`, with a body for a file. */
export async function startFrom(desk, source, body = undefined) {
  try {
    const { id } = await ask(`uploads${source}`, { method: "POST", body });
    const before = { init: desk.value("init"), strength: desk.value("strength") };
    desk.change({ init: id });
    toast(say("init.used"), { words: say("diff.undo"), act: () => desk.change(before) });
    return true;
  } catch (problem) {
    toast(problem.message);
    return false;
  }
}

/** A small copy of the picture with a way to be rid of it, or a button to choose one. */
export function pictureControl(desk, id) {
  const file = el("input", {
    type: "file", accept: "image/png,image/jpeg,image/webp,image/bmp,image/tiff", hidden: true,
    onchange: async () => { await startFrom(desk, "", file.files[0]); file.value = ""; },
  });
  const choose = button(say("init.choose"), () => file.click(), { id });
  const picture = el("img", { alt: say("init.picture") });
  // Without the picture its strength has nothing to work on: it goes back to where it was.
  const remove = button(icon("close"), () => { desk.change({ init: null, strength: desk.defaults.strength }); choose.focus(); }, { class: "icon", "aria-label": say("init.remove"), title: say("init.remove") });
  const shown = el("span", { class: "brought" }, picture, remove);
  const set = (value) => {
    choose.hidden = Boolean(value);
    shown.hidden = !value;
    if (value) picture.src = `uploads/${encodeURIComponent(value)}.png`;
    else picture.removeAttribute("src");
  };
  return { element: el("span", { class: "picture-control" }, file, choose, shown), set };
}
