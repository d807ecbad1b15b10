// Small tools for building the page. Texts from outside are set as text or attributes, never as HTML.

/** An element with attributes (`on...` are listeners, `class` a class name) and children. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A button that is no submit button. */
export function button(label, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, label);
}

const ICONS = {
  dice: "M4 4h12v12H4zM7.4 7.4h.01M12.6 7.4h.01M10 10h.01M7.4 12.6h.01M12.6 12.6h.01",
  again: "M15.5 8A6 6 0 1 0 16 11M16 4v4h-4",
  swap: "M4 7h11l-3-3M16 13H5l3 3",
  close: "M5 5l10 10M15 5L5 15",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6",
  folder: "M3 6h5l1.5 2H17v8H3z",
  picture: "M3 4h14v12H3zM3 13.5l4-4 3.5 3.5 2.5-2.5 4 4M13.2 7.6h.01",
  undo: "M7 4L3.5 7.5 7 11M3.5 7.5H12a4.5 4.5 0 0 1 0 9H8",
  redo: "M13 4l3.5 3.5L13 11M16.5 7.5H8a4.5 4.5 0 0 0 0 9h4",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  fit: "M4 8V4h4M12 4h4v4M16 12v4h-4M8 16H4v-4",
  up: "M4.5 12.5l5.5-6 5.5 6",
  down: "M4.5 7.5l5.5 6 5.5-6",
  eye: "M2.5 10s2.8-5 7.5-5 7.5 5 7.5 5-2.8 5-7.5 5-7.5-5-7.5-5zM10 12.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4z",
  closed: "M3 8.5s2.8 4.5 7 4.5 7-4.5 7-4.5M5 11.5l-1.5 2M10 13v2.4M15 11.5l1.5 2",
  solo: "M10 2.8l2.2 4.6 5 .7-3.6 3.5.9 5-4.5-2.4-4.5 2.4.9-5L2.8 8.1l5-.7z",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  grip: "M7.5 5h.01M12.5 5h.01M7.5 10h.01M12.5 10h.01M7.5 15h.01M12.5 15h.01",
  mirror: "M10 3v14M7.5 6L3 14h4.5zM12.5 6L17 14h-4.5z",
  person: "M9 8.8a2.7 2.7 0 1 0 0-5.4 2.7 2.7 0 0 0 0 5.4zM3.8 16.5c0-3.3 2.2-5.1 5.2-5.1 1 0 1.9.2 2.7.6M15 11.5v5M12.5 14h5",
  copy: "M7.5 7.5h9v9h-9zM4.5 12.5h-1v-9h9v1",
  bone: "M6.2 13.8l7.6-7.6M6.2 13.8a1.7 1.7 0 1 1-2.4 2.4 1.7 1.7 0 0 1 2.4-2.4zM13.8 6.2a1.7 1.7 0 1 0 2.4-2.4 1.7 1.7 0 0 0-2.4 2.4z",
  brush: "M16.5 3.5l-7 8.2M9.5 11.7c1.6.6 2 1.6 1.6 2.8-.6 1.9-3.6 2.6-7.1 2 1.4-.9 1.6-1.7 1.8-2.9.3-1.5 1.9-2.6 3.7-1.9z",
  eraser: "M11.2 4L16 8.8l-7.2 7.2H6.2L3 12.8a1 1 0 0 1 0-1.4L10.4 4a.6.6 0 0 1 .8 0zM6.6 8L12 13.4M8 16h9",
  lasso: "M10 3.5c4 0 7 1.9 7 4.4s-3 4.4-7 4.4-7-1.9-7-4.4 3-4.4 7-4.4zM5.6 11.2c-1.3 1.5-.4 3 1 2.7 1.3-.3 1.1-2-.2-1.9-2 .2-2.4 3.1-1.2 4.9",
  shield: "M10 2.6l6 2.2v4.7c0 3.8-2.5 6.4-6 7.9-3.5-1.5-6-4.1-6-7.9V4.8z",
  previous: "M12.5 4l-6 6 6 6",
  next: "M7.5 4l6 6-6 6",
  link: "M8.5 11.5a3 3 0 0 0 4.3.2l2.6-2.6a3 3 0 0 0-4.3-4.3l-1 1M11.5 8.5a3 3 0 0 0-4.3-.2l-2.6 2.6a3 3 0 0 0 4.3 4.3l1-1",
  sealed: "M10 2.5l6 2.2v4.6c0 4-2.5 6.8-6 8.2-3.5-1.4-6-4.2-6-8.2V4.7zM7 9.9l2.2 2.2 3.9-4.2",
  marked: "M10 17.2a7.2 7.2 0 1 0 0-14.4 7.2 7.2 0 0 0 0 14.4zM6.8 10.2l2.2 2.2 4.2-4.5",
  alert: "M10 17.2a7.2 7.2 0 1 0 0-14.4 7.2 7.2 0 0 0 0 14.4zM10 6.4v4.4M10 13.6h.01",
  unknown: "M10 17.2a7.2 7.2 0 1 0 0-14.4 7.2 7.2 0 0 0 0 14.4zM8 8.1a2 2 0 1 1 2.9 1.8c-.6.3-.9.7-.9 1.3M10 13.7h.01",
  get: "M10 3v9.5M6 9l4 4 4-4M3.5 15.5v1.5h13v-1.5",
  pause: "M7 4.5v11M13 4.5v11",
  play: "M6.5 4.5l9 5.5-9 5.5z",
  model: "M10 2.8l6.5 3.6v7.2L10 17.2l-6.5-3.6V6.4zM3.5 6.4L10 10l6.5-3.6M10 10v7.2",
  layers: "M10 3.5l7 3.7-7 3.7-7-3.7zM3.4 10.6l6.6 3.5 6.6-3.5M3.4 13.8l6.6 3.4 6.6-3.4",
  text: "M4 5.5V4h12v1.5M10 4v12M8 16h4",
  label: "M3 3.5h6.6l7 7-6.1 6.1-7.5-7.5zM6.6 7h.01",
};

/** One of the page's line icons; it says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "line-icon");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** What the server answered with when it could not do as asked: one sentence, and a field. */
export class Problem extends Error {
  constructor(message, field = null, status = 0) {
    super(message);
    this.field = field;
    this.status = status;
  }
}

/** Asks one of our own routes and gives its JSON. Throws a `Problem`; an aborted call throws on. */
export async function ask(path, { method = "GET", json, body, signal } = {}) {
  const options = { method, signal, cache: "no-store" };
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers = { "content-type": "application/json" };
  } else if (body !== undefined) {
    options.body = body;
    options.headers = { "content-type": "application/octet-stream" };
  } else if (method !== "GET") {
    options.body = "";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(lost());
  }
  const text = await answer.text();
  let read = null;
  try {
    read = JSON.parse(text);
  } catch {
    read = { message: text };
  }
  if (!answer.ok) throw new Problem(read?.message || `${answer.status} ${answer.statusText}`, read?.field ?? null, answer.status);
  return read;
}

let lost = () => "";

/** Sets the words for a server that does not answer. */
export function sayLost(words) {
  lost = words;
}

/** Sets a text where it is another one: what stays is not read out anew. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Puts the elements into the list in that order, where it is another one; who had the focus keeps it. */
export function arrange(list, elements) {
  if (elements.length === list.children.length && elements.every((element, at) => list.children[at] === element)) return;
  const focused = document.activeElement;
  list.replaceChildren(...elements);
  if (list.contains(focused)) focused.focus();
}

/** Calls `work` once `pause` milliseconds have passed without another call. */
export function settled(work, pause) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), pause);
  };
}

/** Fills `<select>` with [value, words] pairs and keeps what was chosen. */
export function choices(select, pairs) {
  const chosen = select.value;
  select.replaceChildren(...pairs.map(([value, words]) => el("option", { value }, words)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}

let toastTimer = 0;

/** A short message at the foot of the page, with one thing to do about it. */
export function toast(words, deed = null) {
  const box = document.getElementById("toast");
  clearTimeout(toastTimer);
  const hide = () => { box.hidden = true; };
  const home = document.getElementById("easel");
  // All that is outside of an open dialog is covered and dead: the message goes into it.
  const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
  (dialog ?? home).append(box);
  dialog?.addEventListener("close", () => home.append(box), { once: true });
  box.replaceChildren(el("span", {}, words));
  if (deed) box.append(button(deed.words, () => { hide(); deed.act(); }, { class: "link" }));
  box.hidden = false;
  toastTimer = setTimeout(hide, deed ? 12000 : 6000);
}

/** Saves bytes or text as a file, as if it had been downloaded. */
export function download(href, name) {
  const anchor = el("a", { href, download: name });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
}

/** Saves a text of that media type as a file. */
export function downloadText(text, type, name) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  download(address, name);
  // The browser has taken it up by then.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
