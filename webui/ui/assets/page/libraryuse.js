// What "Use" means for each kind of file.

import { toast } from "./dom.js";
import { embeddingOf, putInto } from "./embeddingshelf.js";
import { say } from "./texts.js";

const asModel = (card, { desk, look }) => desk.change({ model: modelOf(card, look) });

const DEEDS = {
  model: asModel,
  // What it lacks is taken from files beside it; what is missing is said below the model.
  denoiser: asModel,
  lora: ({ name }, { loras }) => { loras.put(name); return true; },
  vae: (card, { desk }) => desk.change({ vae: inFolder(card) }),
};

const IN_FOLDERS = ["controlnet", "vae"]; // Found by their shelves in folders of these names alone.

/** Whether there is something to be done with a card on the page. */
export function usable(card) {
  return !card.problem && (card.kind in DEEDS || ["embedding", "controlnet"].includes(card.kind));
}

/** Takes it over to Create. `page` has `desk`, `look`, `loras`, `controls` and `places`. */
export function useCard(card, page) {
  if (card.kind === "embedding") return useEmbedding(card, page, "prompt");
  if (IN_FOLDERS.includes(card.kind) && !inFolder(card)) return toast(say("library.elsewhere", { name: card.name, folder: card.kind }));
  if (card.kind === "controlnet") return useNet(card, page);
  page.places.go("create");
  const before = page.desk.value("model");
  const changed = DEEDS[card.kind](card, page);
  const undo = changed && card.kind !== "lora" && before !== undefined ? { words: say("diff.undo"), act: () => page.desk.undo() } : null;
  return toast(say(`library.used.${card.kind === "denoiser" ? "model" : card.kind}`, { name: card.name }), undo);
}

/** What requests call a card that is a model: the shelf of models alone may have a shorter name for it. */
export function modelOf({ name, names }, look) {
  return look.models.find((model) => names.includes(model.name))?.name ?? name;
}

/** What the shelf of a folder calls a card; undefined where it lies elsewhere. */
function inFolder({ kind, names }) {
  return names.find((name) => names.includes(`${kind}/${name}`));
}

/** Has a ControlNet steer, if it fits the chosen model. */
function useNet({ name, names }, { controls, places }) {
  const net = controls.shelf.nets.find((one) => names.includes(one.name));
  if (!net || net.problem) return toast(net?.problem ?? say("library.unfit", { name }));
  places.go("create");
  return controls.use(net);
}

/** Puts a card's embedding into one of the two prompts. */
export async function useEmbedding(card, page, field) {
  try {
    const known = await embeddingOf(card);
    if (!known) return toast(say("library.embedding.elsewhere", { name: card.name }));
    page.places.go("create");
    const undo = putInto(field, known, page.desk) ? { words: say("diff.undo"), act: () => page.desk.undo() } : null;
    const where = field === "prompt" ? "library.used.embedding" : "library.used.embedding.negative";
    return toast(say(where, { name: known.name }), undo);
  } catch (error) {
    return toast(error.message);
  }
}
