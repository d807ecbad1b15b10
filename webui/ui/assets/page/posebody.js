// A person of a pose as data, 18 points [x, y, seen] in pixels, and what can be done to one. Points
// that stay where they are stay the same arrays: what draws a person sees by that what has changed.

export const JOINTS = [
  "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
  "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
];
// From the joint that is nearer to the neck to the one that hangs on it.
export const LIMBS = [[1, 2], [1, 5], [2, 3], [3, 4], [5, 6], [6, 7], [1, 8], [8, 9], [9, 10], [1, 11], [11, 12], [12, 13], [1, 0], [0, 14], [14, 16], [0, 15], [15, 17]];
export const COLOURS = [
  "#ff0000", "#ff5500", "#ffaa00", "#ffff00", "#aaff00", "#55ff00", "#00ff00", "#00ff55", "#00ffaa",
  "#00ffff", "#00aaff", "#0055ff", "#0000ff", "#5500ff", "#aa00ff", "#ff00ff", "#ff00aa", "#ff0055",
];
export const LIMB_SHADE = 0.6; // Light of a limb, of its joint's colour.
export const STICK = 4 / 512; // Half the width of a limb, of the shorter side.
export const MAX_PEOPLE = 16;

const NECK = 1;
const MIRRORED = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16];
const LEAST = 4; // Pixels: a person is never made smaller than that.

/** The joint that a joint hangs on; none for the neck. */
export function parentOf(joint) {
  return LIMBS.find(([, hanging]) => hanging === joint)?.[0];
}

/** A joint and all that hang on it. */
export function below(joint) {
  return [joint, ...LIMBS.filter(([upper]) => upper === joint).flatMap(([, hanging]) => below(hanging))];
}

/** The same person with some joints elsewhere. */
export function moved(person, joints, x, y) {
  return person.map((point, joint) => (joints.includes(joint) ? [point[0] + x, point[1] + y, point[2]] : point));
}

/** All joints moved. */
export function carried(person, x, y) {
  return person.map(([left, top, seen]) => [left + x, top + y, seen]);
}

/** A joint pulled towards a place: it turns about the one it hangs on, and takes along what hangs on it. */
export function pulled(person, joint, place) {
  const [x, y] = person[joint];
  const upper = person[parentOf(joint)];
  if (!upper) return carried(person, place.x - x, place.y - y);
  const length = Math.hypot(x - upper[0], y - upper[1]);
  if (length < 0.01) return moved(person, below(joint), place.x - x, place.y - y);
  const by = angle(upper, [place.x, place.y]) - angle(upper, [x, y]);
  return rotated(person, below(joint), upper, by);
}

/** A limb moved: its upper joint stays as far from the one it hangs on, all below comes along as it is. */
export function pulledLimb(person, [upper], x, y) {
  if (upper === NECK) return carried(person, x, y);
  const before = person[upper];
  const after = pulled(person, upper, { x: before[0] + x, y: before[1] + y })[upper];
  return moved(person, below(upper), after[0] - before[0], after[1] - before[1]);
}

/** The person made larger or smaller about a point. */
export function scaled(person, about, by) {
  const { width, height } = boxOf(person);
  const factor = Math.max(by, LEAST / Math.max(width, height, LEAST));
  return person.map(([x, y, seen]) => [about.x + (x - about.x) * factor, about.y + (y - about.y) * factor, seen]);
}

/** The person turned about a point by an angle in radians, clockwise. */
export function turned(person, about, by) {
  return rotated(person, JOINTS.map((_, joint) => joint), [about.x, about.y], by);
}

/** The person as in a mirror: what was the right hand is then the left one, as it is for people. */
export function mirrored(person) {
  const { x, width } = boxOf(person);
  return MIRRORED.map((joint) => [2 * x + width - person[joint][0], person[joint][1], person[joint][2]]);
}

/** The person with a joint hidden, or shown again. */
export function toggled(person, joint) {
  return person.map((point, at) => (at === joint ? [point[0], point[1], !point[2]] : point));
}

/** What the joints that are seen take up. */
export function boxOf(person) {
  const seen = person.filter((point) => point[2]);
  const points = seen.length ? seen : person;
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
}

/** The person moved as little as needed to lie on the canvas, where it fits on it. */
export function inSight(person, { width, height }) {
  const box = boxOf(person);
  const by = (at, side, most) => (side > most ? 0 : Math.max(0, -at) + Math.min(0, most - at - side));
  return carried(person, by(box.x, box.width, width), by(box.y, box.height, height));
}

/** How large a person is, whatever it does: the length of all limbs together, in pixels. */
export function sizeOf(person) {
  return LIMBS.reduce((sum, [upper, hanging]) => sum + apart(person[upper], person[hanging]), 0);
}

/** Hidden joints that lie on the one they hang on, where nobody could take hold of them, as another has them. */
export function unfolded(person, like) {
  const lengths = LIMBS.map(([upper, hanging]) => [apart(person[upper], person[hanging]), apart(like[upper], like[hanging])]);
  const known = lengths.filter(([own]) => own >= 0.01);
  const total = (at) => known.reduce((sum, pair) => sum + pair[at], 0);
  const scale = known.length ? total(0) / total(1) : 1;
  let whole = person;
  for (const [limb, [upper, hanging]] of LIMBS.entries()) {
    if (person[hanging][2] || lengths[limb][0] >= 0.01) continue;
    const place = [0, 1].map((axis) => whole[upper][axis] + (like[hanging][axis] - like[upper][axis]) * scale);
    whole = whole.map((point, joint) => (joint === hanging ? [...place, false] : point));
  }
  return whole;
}

/** People of one canvas on another: as large as they fit, in the middle. */
export function fitted(people, from, to) {
  const scale = Math.min(to.width / from.width, to.height / from.height);
  const left = (to.width - from.width * scale) / 2;
  const top = (to.height - from.height * scale) / 2;
  if (scale === 1 && !left && !top) return people;
  return people.map((person) => person.map(([x, y, seen]) => [left + x * scale, top + y * scale, seen]));
}

/** The person as it is kept: hundredths of a pixel, and no joint further away than a pose may have it. */
export function kept(person, { width, height }) {
  const within = (value, side) => Math.round(100 * Math.min(2 * side, Math.max(-side, value))) / 100;
  return person.map(([x, y, seen]) => [within(x, width), within(y, height), seen]);
}

function rotated(person, joints, [x, y], by) {
  const [cos, sin] = [Math.cos(by), Math.sin(by)];
  return person.map((point, joint) => {
    if (!joints.includes(joint)) return point;
    const [across, down] = [point[0] - x, point[1] - y];
    return [x + across * cos - down * sin, y + across * sin + down * cos, point[2]];
  });
}

function angle([x, y], [toX, toY]) {
  return Math.atan2(toY - y, toX - x);
}

function apart([x, y], [toX, toY]) {
  return Math.hypot(toX - x, toY - y);
}
