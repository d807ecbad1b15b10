// A stack of the recipe in a few words: LoRAs by name and weight, control units by what they show.

import { kindName } from "./controlunit.js";
import { plain, say } from "./texts.js";

/** The parts of a list of a request as a person reads them; they may come from anybody's file. */
export function stackWords(parts) {
  return parts.map((part) => (part !== null && typeof part === "object" ? partWords(part) : plain(part))).join(", ");
}

function partWords({ name, kind, weight, enabled = true, pose }) {
  const words = [name ?? (typeof kind === "string" ? kindName(kind) : ""), plain(weight ?? "")].join(" ").trim();
  const people = pose?.people?.length;
  const more = [people && peopleWords(people), !enabled && say("diff.muted")].filter(Boolean);
  return more.length ? `${words} (${more.join(", ")})` : words;
}

function peopleWords(n) {
  return n === 1 ? say("diff.people.one") : say("diff.people.many", { n });
}
