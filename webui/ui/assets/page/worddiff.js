// Which words differ between two texts.

const KEPT = 12; // Pieces that are shown of a long run that is the same in both, at each of its ends.
const MOST_CELLS = 4e6; // Of the table of lengths: two prompts of the greatest length.

/**
 * The longest common subsequence of words, blanks and marks, from the plain table of lengths. Gives
 * [kind, pieces] pairs in reading order, kind one of "same", "now" and "then".
 */
export function wordDiff(now, then) {
  const [before, after] = [pieces(now), pieces(then)];
  if (before.length * after.length > MOST_CELLS) return [["now", [now]], ["then", [then]]];
  const width = after.length + 1;
  const lengths = new Uint16Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = before[i] === after[j]
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const runs = [];
  const add = (kind, piece) => {
    if (runs.at(-1)?.[0] === kind) runs.at(-1)[1].push(piece);
    else runs.push([kind, [piece]]);
  };
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      add("same", before[i]);
      i += 1;
      j += 1;
    } else if (j === after.length || (i < before.length && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      add("now", before[i]);
      i += 1;
    } else {
      add("then", after[j]);
      j += 1;
    }
  }
  return runs;
}

/** A long run that is the same in both, shortened. */
export function shortened(run) {
  return run.length > 3 * KEPT ? [...run.slice(0, KEPT), "… ", ...run.slice(-KEPT)] : run;
}

/** Words, blanks and marks, which joined give the text. */
function pieces(text) {
  return text.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) ?? [];
}
