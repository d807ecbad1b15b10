// What was found in a picture's file, in words: a verdict, and one row for each layer there can be.

import { say, sayable } from "./texts.js";

const NAMED = 12; // Digits of a hash that tell it from others.

// Terms of the standards that there are everyday words for.
const TERMS = {
  action: ["created", "opened", "edited", "converted", "placed"],
  source: ["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia", "digitalCreation", "digitalCapture", "humanEdits"],
};

const SIGNS = {
  whole: ["good", "sealed"],
  own: ["good", "sealed"],
  marked: ["good", "marked"],
  changed: ["wrong", "alert"],
  other: ["wait", "unknown"],
  claimed: ["wait", "label"],
  unknown: ["plain", "unknown"],
};

/** {tone, sign, sentence, meaning} of what the server has found (see provenance/report.py). */
export function verdictOf({ verdict, credentials }) {
  const [tone, sign] = SIGNS[verdict];
  const nearer = { elsewhere: "other", unreadable: "changed" };
  const named = nearer[credentials.state] === verdict ? credentials.state : verdict;
  return { tone, sign, sentence: say(`check.verdict.${named}`), meaning: say(`check.means.${named}`) };
}

/** Rows {name, state, tone, lines}, the most certain first. */
export function layersOf(found) {
  return [credentials(found.credentials), watermark(found.watermark), statement(found), recipe(found), ancestry(found.credentials.lineage)];
}

function credentials({ state, signer, generator, actions, source_types: types, problems }) {
  const [word, tone] = { none: ["none", "plain"], own: ["valid", "good"], other: ["stranger", "wait"], changed: ["unfit", "wrong"], elsewhere: ["away", "wait"], unreadable: ["damaged", "wrong"] }[state];
  const lines = [
    say(`check.credentials.${state}`),
    signer && state !== "own" && say("check.signer", { signer }),
    generator && say("check.generator", { generator }),
    actions.length > 0 && say("check.actions", { actions: named("action", actions) }),
    types.length > 0 && say("check.types", { types: named("source", types) }),
    problems.length > 0 && say("check.problems", { problems: problems.join(", ") }),
  ];
  return { name: "credentials", state: word, tone, lines: lines.filter(Boolean) };
}

function watermark(found) {
  if (!found) return { name: "watermark", state: "unlooked", tone: "plain", lines: [say("check.watermark.unlooked")] };
  const state = found.present ? "found" : "none";
  return { name: "watermark", state, tone: found.present ? "good" : "plain", lines: [say(`check.watermark.${state}`, found)] };
}

function statement({ xmp, credentials: { state } }) {
  if (!xmp) return { name: "xmp", state: "none", tone: "plain", lines: [say("check.xmp.none")] };
  return { name: "xmp", ...backed(state), lines: [say("check.xmp", { type: named("source", [xmp]) })] };
}

function recipe({ recipe: found, tool, credentials: { state } }) {
  if (tool) return { name: "recipe", state: "unread", tone: "wait", lines: [say("check.recipe.tool", { tool })] };
  if (!found) return { name: "recipe", state: "none", tone: "plain", lines: [say("check.recipe.none")] };
  const { model, seed } = found.request;
  const lines = [say(`check.recipe.${found.from}`), model && say("check.recipe.model", { model }), Number.isFinite(seed) && say("check.recipe.seed", { seed })];
  return { name: "recipe", ...backed(state), lines: lines.filter(Boolean) };
}

/** A text of the file: certain under our own signature, a mere claim otherwise. */
function backed(state) {
  return state === "own" ? { state: "valid", tone: "good" } : { state: "unsigned", tone: "wait" };
}

function ancestry(lineage) {
  if (!lineage) return { name: "ancestry", state: "unknown", tone: "plain", lines: [say("check.ancestry.unknown")] };
  const { operation, parent, mask, loras, controls, tainted } = lineage;
  const lines = [
    sayable(`check.operation.${operation}`) ? say(`check.operation.${operation}`) : String(operation),
    say(tainted === false ? "check.untainted" : "check.tainted"),
    ...Object.entries({ parent, mask }).map(([name, hash]) => hash && say(`check.${name}`, { hash: String(hash).slice(0, NAMED) })),
    loras?.length > 0 && say("check.loras", { n: loras.length }),
    controls?.length > 0 && say("check.controls", { n: controls.length }),
  ];
  return { name: "ancestry", state: "valid", tone: "good", lines: lines.filter(Boolean) };
}

function named(kind, terms) {
  const words = (term) => (TERMS[kind].includes(term) ? say(`check.${kind}.${term}`) : term);
  return [...new Set(terms)].map((term) => words(term.replace("c2pa.", ""))).join(", ");
}
