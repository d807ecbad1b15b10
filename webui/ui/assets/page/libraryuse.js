// What "Use" means for each kind of file.

import { toast } from "./dom.js";
import { say } from "./texts.js";

const DEEDS = {
  // The shelf of models alone may have a shorter name for it than all shelves together.
  model: ({ name, file }, { desk, look }) => desk.change({ model: (look.models.find((model) => model.name === name) ?? look.models.find((model) => file.includes(model.name)))?.name ?? name }),
  lora: ({ name }, { loras }) => { loras.put(name); return true; },
  embedding: ({ name }, { desk }) => {
    const prompt = desk.value("prompt").replace(/[\s,]+$/, "");
    return desk.change({ prompt: prompt ? `${prompt}, ${name}` : name });
  },
};

/** Whether there is something to be done with a card on the page. */
export function usable(card) {
  return !card.problem && card.kind in DEEDS;
}

/** Takes it over to Create. `page` has `desk`, `look`, `loras` and `places`. */
export function useCard(card, page) {
  page.places.go("create");
  const before = page.desk.value("model");
  const changed = DEEDS[card.kind](card, page);
  const undo = changed && card.kind !== "lora" && before !== undefined ? { words: say("diff.undo"), act: () => page.desk.undo() } : null;
  toast(say(`library.used.${card.kind}`, { name: card.name }), undo);
}
