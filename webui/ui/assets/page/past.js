// What was before: states of one thing that is edited, to go back and forth in.

export class Past {
  #before = [];
  #after = [];
  #most;
  #fits;

  /** Keeps at most `most` states that one can go back to, and only as many as `fits(states)` allows. */
  constructor(most = 100, fits = () => true) {
    this.#most = most;
    this.#fits = fits;
  }

  get canUndo() {
    return this.#before.length > 0;
  }

  get canRedo() {
    return this.#after.length > 0;
  }

  /** Remembers the state that is about to be left by a new change. */
  keep(state) {
    this.#before = [...this.#before.slice(1 - this.#most), state];
    this.#after = [];
    while (this.#before.length > 1 && !this.#fits(this.#before)) this.#before.shift();
  }

  /** The state before `state`, or undefined. */
  undo(state) {
    return step(this.#before, this.#after, state);
  }

  /** The state that was left for `state` by an undo, or undefined. */
  redo(state) {
    return step(this.#after, this.#before, state);
  }

  clear() {
    this.#before = [];
    this.#after = [];
  }
}

function step(from, to, state) {
  if (!from.length) return undefined;
  to.push(state);
  return from.pop();
}
