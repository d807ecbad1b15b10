// What hands do on the grid: keyboard, mouse and finger.

const HOLD = 450; // Milliseconds until a finger that stays chooses a picture.
const SLIP = 10; // Pixels a resting finger may move.

/** `deeds` has `open(at)`, `remove(ids)`: what happens on Enter or a click, and on Delete. */
export function listenToGrid(grid, choice, found, deeds) {
  const { root } = grid;
  const choose = (at, event) => {
    grid.at = at;
    if (event.shiftKey) choice.range(found.items[at].id, found.items);
    else choice.toggle(found.items[at].id);
  };
  const held = holding(root, (target) => grid.atOf(target) >= 0 && choice.toggle(found.items[grid.atOf(target)].id));

  root.addEventListener("focusin", ({ target }) => {
    const at = grid.atOf(target);
    if (at < 0 || at === grid.at) return;
    grid.at = at;
    grid.draw(true);
  });
  root.addEventListener("click", (event) => {
    const at = grid.atOf(event.target);
    if (at < 0 || held.just()) return event.preventDefault();
    const finger = event.pointerType === "touch" && choice.size > 0;
    if (event.target.matches("input") || event.shiftKey || event.ctrlKey || event.metaKey || finger) choose(at, event);
    else deeds.open(at);
  });
  root.addEventListener("contextmenu", (event) => held.just() && event.preventDefault());
  root.addEventListener("keydown", (event) => {
    if (grid.atOf(event.target) < 0) return;
    const to = walk(event, grid, found);
    if (to !== null) {
      if (event.shiftKey && !choice.size) choice.toggle(found.items[grid.at].id);
      grid.focus(to);
      if (event.shiftKey) choice.range(found.items[grid.at].id, found.items);
    } else if (event.key === " ") choose(grid.at, event);
    else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) deeds.open(grid.at);
    else if (event.key === "Delete") deeds.remove(choice.size ? choice.ids : [found.items[grid.at].id]);
    else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) found.all().then((items) => choice.all(items));
    else return;
    event.preventDefault();
  });
}

/** Where an arrow key leads to; null for every other key. */
function walk({ key, ctrlKey, metaKey, altKey }, grid, found) {
  if (ctrlKey || metaKey || altKey) return null;
  switch (key) {
    case "ArrowRight": return grid.at + 1;
    case "ArrowLeft": return grid.at - 1;
    case "ArrowDown": return grid.inRow(1);
    case "ArrowUp": return grid.inRow(-1);
    case "PageDown": return grid.inRow(grid.rowsSeen);
    case "PageUp": return grid.inRow(-grid.rowsSeen);
    case "Home": return 0;
    case "End": return found.items.length - 1;
    default: return null;
  }
}

/** Calls `work` when a finger rests on something; `just()` says whether the click after it is part of that. */
function holding(root, work) {
  let timer = 0;
  let start = null;
  let done = false;
  root.addEventListener("pointerdown", (event) => {
    done = false;
    if (event.pointerType !== "touch") return;
    start = event;
    clearTimeout(timer);
    timer = setTimeout(() => { done = true; work(event.target); }, HOLD);
  });
  root.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > SLIP) clearTimeout(timer);
  });
  for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, () => clearTimeout(timer));
  return { just: () => done };
}
