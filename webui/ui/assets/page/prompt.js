// The two prompt boxes: tokens with the cuts shown, brackets that do not match, weights by keys.

import { el, toast } from "./dom.js";
import { say } from "./texts.js";

const STEP = 0.1;
const WEIGHTED = /^\(([\s\S]*):\s*([+-]?[.\d]+)\s*\)$/;

/** Builds both boxes into the page. */
export function buildPrompts(desk, look) {
  const root = document.getElementById("prompts");
  const negative = promptBox(desk, look, "negative_prompt", 1);
  const fold = el("details", { class: "fold", open: Boolean(desk.value("negative_prompt")) }, el("summary", {}, say("field.negative_prompt")), negative);
  desk.addEventListener("change", () => { if (desk.value("negative_prompt") && !fold.open && !fold.matches(":focus-within")) fold.open = true; });
  // One that is set is shown whatever the model is, so that it can be taken out.
  const draw = () => { fold.hidden = look.hidden.has("negative_prompt") && !desk.value("negative_prompt"); };
  look.addEventListener("models", draw);
  desk.addEventListener("change", draw);
  root.append(promptBox(desk, look, "prompt", 2), fold);
}

function promptBox(desk, look, name, rows) {
  const mirror = el("div", { class: "mirror", "aria-hidden": "true" });
  const text = el("textarea", {
    id: `input-${name}`, name, rows: String(rows), spellcheck: true, "aria-describedby": `tokens-${name}`,
    placeholder: say(`${name}.placeholder`),
    oninput: () => { desk.change({ [name]: text.value }, name); grow(text); draw(); },
    onscroll: () => { mirror.scrollTop = text.scrollTop; },
    onkeydown: (event) => weigh(event, text, look.model),
  });
  const count = el("p", { class: "tokens", id: `tokens-${name}` });
  const box = el("div", { class: "field prompt", id: `field-${name}` },
    el("label", { class: "unseen", for: `input-${name}` }, say(`field.${name}`)),
    el("div", { class: "box" }, mirror, text), count, el("p", { class: "advice", hidden: true }));
  let seen = null;
  const draw = () => mark(mirror, text.value, seen?.text === text.value ? seen : null);
  const set = () => {
    if (text.value === desk.value(name)) return;
    text.value = desk.value(name);
    grow(text);
    draw();
  };
  desk.addEventListener("change", ({ detail }) => detail.from !== name && set());
  look.addEventListener("seen", () => {
    const tokens = look.seen[name];
    seen = { ...tokens, text: text.value };
    const idle = look.seen.idle.find(({ field }) => field === name);
    count.textContent = counted(tokens, idle, look.model);
    box.classList.toggle("idle", Boolean(idle));
    draw();
  });
  set();
  requestAnimationFrame(() => grow(text));
  return box;
}

function counted({ encoders, brackets, problem, drawn, unread, embeddings, remarks }, idle, model) {
  const words = encoders.flatMap((encoder) => ofEncoder(encoder, encoders.length > 1, problem));
  if (drawn && words.length) words.push(say("tokens.drawn"));
  if (brackets.length) words.push(say("tokens.brackets"));
  if (unread && model) words.push(say("tokens.unread", { family: model.family }));
  if (embeddings.length) words.push(say("tokens.embeddings", { names: embeddings.map((one) => say("tokens.embedding", one)).join(", ") }));
  for (const { kind, name, why } of remarks) words.push(say(`embedding.${kind}`, { name, why }));
  if (problem) words.push(problem);
  if (idle) words.push(say(`idle.${idle.kind}`));
  return words.join(" · ");
}

/** What there is to say about one text encoder, which is named where there are several. */
function ofEncoder({ name, tokens, room, chunks, cuts, lost }, named, problem) {
  const own = (words) => (named ? `${name}: ${words}` : words);
  // Nothing is counted where the prompt cannot be read, or the vocabulary is not there.
  if (chunks === null) return named && !problem ? [own(say("tokens.unknown"))] : [];
  const words = [own(say("tokens", { tokens, room: chunks * room }))];
  if (chunks > 1) words.push(say("tokens.cut", { chunks }));
  if (lost && cuts.length) words.push(own(say("tokens.lost", { room })));
  return words;
}

/** The text once more behind the box, invisible but for marks where it is cut or unmatched. */
function mark(mirror, text, seen) {
  const parts = [];
  let at = 0;
  const marks = [
    ...[...new Set((seen?.encoders ?? []).flatMap(({ cuts }) => cuts))].map((offset) => ({ offset, length: 0, kind: "cut" })),
    ...(seen?.brackets ?? []).map((offset) => ({ offset, length: 1, kind: "unmatched" })),
  ].sort((one, other) => one.offset - other.offset);
  for (const { offset, length, kind } of marks) {
    parts.push(text.slice(at, offset), el("mark", { class: kind }, text.slice(offset, offset + length)));
    at = offset + length;
  }
  mirror.replaceChildren(...parts, text.slice(at), "\u200b");
}

function grow(text) {
  text.style.height = "auto";
  const lines = Math.min(text.scrollHeight + 2, 0.4 * window.innerHeight);
  text.style.height = `${Math.max(lines, 0)}px`;
}

/** Ctrl+Up and Ctrl+Down change the weight of the selected words, or of the word at the cursor. */
function weigh(event, text, model) {
  if (!(event.ctrlKey || event.metaKey) || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
  event.preventDefault();
  if (model?.weighs === false) {
    toast(say("prompt.unweighed", { family: model.family }));
    return;
  }
  const [start, end] = selected(text);
  if (start === end) return;
  const weighted = reweighted(text.value.slice(start, end), event.key === "ArrowUp" ? STEP : -STEP);
  text.setSelectionRange(start, end);
  // The one way to write into a box that its own undo knows of.
  document.execCommand("insertText", false, weighted);
  text.setSelectionRange(start, start + weighted.length);
}

/** The selection without blanks at its ends; a bracket around it belongs to it. */
function selected(text) {
  const { value } = text;
  let [start, end] = [text.selectionStart, text.selectionEnd];
  if (start === end) {
    while (start > 0 && /[^\s,()[\]]/.test(value[start - 1])) start -= 1;
    while (end < value.length && /[^\s,()[\]:]/.test(value[end])) end += 1;
  }
  while (start < end && /\s/.test(value[start])) start += 1;
  while (end > start && /\s/.test(value[end - 1])) end -= 1;
  const tail = /^:\s*[+-]?[.\d]+\s*\)/.exec(value.slice(end));
  if (value[start - 1] === "(" && tail) return [start - 1, end + tail[0].length];
  return [start, end];
}

/** The words with their weight moved; without brackets where it comes to 1. */
export function reweighted(words, by) {
  const [, inner, before] = WEIGHTED.exec(words) ?? [null, words, "1"];
  const weight = Math.min(2, Math.max(0, Math.round((Number(before) + by) * 100) / 100));
  return weight === 1 ? inner : `(${inner}:${weight})`;
}
