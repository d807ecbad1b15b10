// A panel of the side: a heading with what can be added to it, and rows below.

import { el } from "./dom.js";

/** Fills `root`, a section of page.html; `deeds` are buttons beside the heading. Gives the list of rows. */
export function panel(root, title, deeds) {
  const heading = el("h2", { id: `${root.id}-title` }, title);
  const rows = el("ul", { class: "panel-rows" });
  root.setAttribute("aria-labelledby", heading.id);
  root.replaceChildren(el("div", { class: "panel-head" }, heading, el("div", { class: "panel-deeds" }, ...deeds)), rows);
  return rows;
}
