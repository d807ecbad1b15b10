// Poses to begin with: how a body stands, as angles; and the person that makes of them.

import { boxOf, sizeOf } from "./posebody.js";

// Lengths of a grown-up, of the height from the eyes to the ankles.
const LENGTHS = { shoulder: 0.115, upperArm: 0.175, forearm: 0.155, torso: 0.32, hip: 0.075, thigh: 0.255, shin: 0.25, neck: 0.115 };
const FACE = { eye: [0.026, 0.026], ear: [0.034, -0.012] }; // Across and up, from the nose and from the eye.

/**
 * Angles are degrees, 0 straight down and 90 to the right of the picture. `right` and `left` are the person's
 * own: upper arm and forearm, thigh and shin, each with the share of its length that is seen where it points
 * towards us. `lean` is the torso's, `nod` the head's against it, `turn` how far the person faces the right
 * of the picture: 0 towards us, 1 sideways.
 */
export const STOCK = [
  { name: "standing", arms: { right: [-12, -7], left: [12, 7] }, legs: { right: [-4, -2], left: [4, 2] } },
  { name: "arms_up", arms: { right: [-158, -172], left: [158, 172] }, legs: { right: [-8, -4], left: [8, 4] } },
  { name: "t_pose", arms: { right: [-90, -90], left: [90, 90] }, legs: { right: [-5, -3], left: [5, 3] } },
  { name: "walking", turn: 0.7, lean: 4, arms: { right: [24, 52], left: [-24, -6] }, legs: { right: [-16, -34], left: [24, 8] } },
  { name: "running", turn: 0.8, lean: 14, nod: -6, arms: { right: [52, 138], left: [-58, 22] }, legs: { right: [-18, -84], left: [66, -10] } },
  { name: "sitting", turn: 0.6, lean: -4, arms: { right: [10, 66], left: [18, 72] }, legs: { right: [82, 4], left: [88, 0] }, seen: { thigh: 0.9 } },
  { name: "jumping", arms: { right: [-142, -158], left: [142, 158] }, legs: { right: [-44, -2], left: [44, -40] } },
  { name: "waving", arms: { right: [-104, -172], left: [14, 4] }, legs: { right: [-5, -2], left: [7, 4] }, nod: -4 },
  { name: "kneeling", turn: 0.6, arms: { right: [6, 28], left: [38, 62] }, legs: { right: [4, -82], left: [86, 2] } },
  { name: "dancing", lean: -8, nod: 8, arms: { right: [-118, -168], left: [64, 116] }, legs: { right: [-10, 6], left: [40, -34] } },
];

/** A person in a stock pose, its middle at 0, 0, of its own size. */
export function stockPerson({ arms, legs, lean = 0, nod = 0, turn = 0, seen = {} }) {
  const at = Array(18);
  const facing = 1 - 0.75 * turn; // Of the width from shoulder to shoulder, what is seen of it.
  at[1] = [0, 0];
  for (const [side, sign, shoulder, hip] of [["right", -1, 2, 8], ["left", 1, 5, 11]]) {
    at[shoulder] = from(at[1], 90 * sign - lean, LENGTHS.shoulder * facing);
    at[shoulder + 1] = from(at[shoulder], arms[side][0], LENGTHS.upperArm);
    at[shoulder + 2] = from(at[shoulder + 1], arms[side][1], LENGTHS.forearm);
    at[hip] = from(from(at[1], -lean, LENGTHS.torso), 90 * sign, LENGTHS.hip * facing);
    at[hip + 1] = from(at[hip], legs[side][0], LENGTHS.thigh * (seen.thigh ?? 1));
    at[hip + 2] = from(at[hip + 1], legs[side][1], LENGTHS.shin);
  }
  const tilt = 180 - lean - nod;
  at[0] = along(from(at[1], tilt, LENGTHS.neck), tilt, [0.045 * turn, 0]);
  for (const [sign, eye, ear] of [[-1, 14, 16], [1, 15, 17]]) {
    at[eye] = along(at[0], tilt, [sign * FACE.eye[0] * facing - 0.012 * turn, FACE.eye[1]]);
    at[ear] = along(at[eye], tilt, [sign * FACE.ear[0] * facing - 0.05 * turn, FACE.ear[1]]);
  }
  // Of someone who looks aside the further ear is behind the head.
  const person = at.map(([x, y], joint) => [x, y, !(joint === 17 && turn > 0.5)]);
  return placed(person, { x: 0, y: 0, size: sizeOf(person) });
}

/** The person with its middle at a place and limbs of that length together. */
export function placed(person, { x, y, size }) {
  const scale = size / sizeOf(person);
  const box = boxOf(person);
  const [left, top] = [box.x + box.width / 2, box.y + box.height / 2];
  return person.map(([across, down, seen]) => [x + (across - left) * scale, y + (down - top) * scale, seen]);
}

/** Someone who stands in the middle of a canvas and fits on it. */
export function standing({ width, height }) {
  const person = stockPerson(STOCK[0]);
  const box = boxOf(person);
  const scale = 0.82 * Math.min(height / box.height, width / box.width);
  return placed(person, { x: width / 2, y: height / 2, size: sizeOf(person) * scale });
}

/** A point from another at an angle and a distance. */
function from([x, y], degrees, length) {
  const angle = (degrees * Math.PI) / 180;
  return [x + Math.sin(angle) * length, y + Math.cos(angle) * length];
}

/** A point across and up from another on a head that points up at an angle. */
function along(point, up, [across, high]) {
  return from(from(point, up, high), up - 90, across);
}
