// One picture of the grid.

import { el } from "./dom.js";
import { say } from "./texts.js";

const SPOKEN = 160; // Characters of a prompt that are enough to tell a picture by.

/** What a picture is called: the beginning of its prompt, else its file's name. */
export function nameOf(item) {
  const prompt = item.prompt?.trim();
  if (!prompt) return item.name;
  return prompt.length > SPOKEN ? `${prompt.slice(0, SPOKEN)}…` : prompt;
}

/** A cell of the grid with its checkbox; a file that cannot be shown says why. */
export function makeTile(item, { left, width }, height) {
  const box = el("input", { type: "checkbox", tabindex: "-1", "aria-label": say("history.choose") });
  const cell = el("div", { role: "gridcell", class: "tile", tabindex: "-1", style: `left:${left}px;width:${width}px` }, box);
  cell.dataset.id = item.id;
  if (item.broken) cell.append(reason(item, item.broken));
  else cell.append(image(item, width, height, cell));
  return cell;
}

/** Shows whether it is chosen. */
export function markTile(cell, chosen) {
  cell.setAttribute("aria-selected", String(chosen));
  cell.querySelector("input").checked = chosen;
}

/** Asks for nothing any more: a picture that was scrolled past need not be fetched. */
export function dropTile(cell) {
  const picture = cell.querySelector("img");
  if (picture && !picture.complete) picture.removeAttribute("src");
}

function image(item, width, height, cell) {
  const picture = el("img", { alt: nameOf(item), width: String(Math.round(width)), height: String(Math.round(height)), decoding: "async", draggable: "false" });
  picture.addEventListener("error", () => picture.hasAttribute("src") && cell.contains(picture) && picture.replaceWith(reason(item, say("history.unshown"))));
  picture.src = item.thumbnail;
  return picture;
}

function reason(item, words) {
  return el("span", { class: "reason" }, el("b", {}, item.name), el("span", {}, words));
}
