// What a model's file lacks, in words: which parts, and where they belong.

import { ask } from "./dom.js";
import { say } from "./texts.js";

/** A line for each folder in which parts are missing; empty where there are none. */
export function missingWords(parts) {
  const folders = [...new Set(parts.map(({ folder }) => folder))];
  const named = ({ kind, name, address }) => say(address ? `missing.${kind}.at` : `missing.${kind}`, { name, address });
  return folders.map((folder) => say("missing", { folder, parts: parts.filter((part) => part.folder === folder).map(named).join(", ") })).join("\n");
}

/** What the model of that name lacks. */
export async function missingOf(model) {
  return (await ask("look", { method: "POST", json: { request: { model } } })).missing;
}
