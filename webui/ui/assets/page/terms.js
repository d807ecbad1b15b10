// What the maker of a model allows or asks for, where it is told in single points.

import { sayable, say } from "./texts.js";

/** A few words for each point that is known here. */
export function termsOf(terms) {
  return terms.filter((term) => sayable(`get.term.${term}`)).map((term) => say(`get.term.${term}`));
}
