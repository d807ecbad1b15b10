// What prompts call the embeddings on the shelf, and how they are put there.

import { ask } from "./dom.js";

/** What is known of a card's embedding; undefined where prompts do not find it. */
export async function embeddingOf(card) {
  const { embeddings } = await ask("embeddings");
  return embeddings.find(({ file }) => file === card.file);
}

/** Puts an embedding at the end of a prompt, once; gives whether anything changed. */
export function putInto(field, { name }, desk) {
  const written = `<${name}>`;
  const before = desk.value(field).replace(/[\s,]+$/, "");
  if (before.includes(written)) return false;
  return desk.change({ [field]: before ? `${before}, ${written}` : written });
}
