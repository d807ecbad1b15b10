// What of a pose lies under a finger. It is reckoned, not asked of the browser: however small it is drawn
// and whatever lies over it, the nearest is taken, and a joint is as easy to hit as a finger is wide.

import { LIMBS, boxOf } from "./posebody.js";

const PREFERRED = 0.7; // How much nearer everything of the chosen person counts.
const LIMB_REACH = 0.6; // Of a joint's.

/**
 * What lies within `reach` pixels of the picture of a point: a handle, a joint, a limb or else the person
 * whose box it is in. `handles` are [kind, x, y] of the chosen person. Null: nothing.
 */
export function hit(people, chosen, handles, point, reach) {
  const weight = (person) => (person === chosen ? PREFERRED : 1);
  const spots = handles.map(([kind, x, y]) => ({ kind, person: chosen, far: apart(point, x, y) }));
  for (const [at, person] of people.entries()) {
    for (const [joint, [x, y, seen]] of person.entries()) {
      // Hidden joints are shown of the chosen person alone.
      if (seen || at === chosen) spots.push({ kind: "joint", person: at, joint, far: apart(point, x, y) });
    }
  }
  const limbs = people.flatMap((person, at) => LIMBS.map((limb, number) => ({ kind: "limb", person: at, limb: number, far: beside(point, person, limb) })));
  const nearest = (all, most) => all.filter(({ far }) => far <= most).sort((a, b) => a.far * weight(a.person) - b.far * weight(b.person))[0];
  return nearest(spots, reach) ?? nearest(limbs, reach * LIMB_REACH) ?? inside(people, chosen, point);
}

function inside(people, chosen, { x, y }) {
  const within = people
    .map((person, at) => ({ kind: "person", person: at, box: boxOf(person) }))
    .filter(({ box }) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height);
  const smallest = within.sort((a, b) => a.box.width * a.box.height - b.box.width * b.box.height)[0];
  return within.find(({ person }) => person === chosen) ?? smallest ?? null;
}

/** How far a point is from a limb that is drawn. */
function beside(point, person, [upper, hanging]) {
  const [x, y, seen] = person[upper];
  const [toX, toY, alsoSeen] = person[hanging];
  if (!seen || !alsoSeen) return Infinity;
  const [across, down] = [toX - x, toY - y];
  const along = ((point.x - x) * across + (point.y - y) * down) / (across * across + down * down || 1);
  const share = Math.min(1, Math.max(0, along));
  return apart(point, x + across * share, y + down * share);
}

function apart(point, x, y) {
  return Math.hypot(point.x - x, point.y - y);
}
