// What an address carries behind its "#" as `key=value`. That part is never sent to a server; it is
// taken out of the address bar before it is used, so that it does not stay behind there.

const CARRIED = /^#(\w+)=(.*)$/s;

const takers = new Map();
let waiting = null;

/** Gives `take` what the address carries under that key, now and whenever it does so again. */
export function onFragment(key, take) {
  if (!takers.size) addEventListener("hashchange", look);
  takers.set(key, take);
  look();
}

function look() {
  const found = CARRIED.exec(location.hash);
  if (found) {
    waiting = { key: found[1], value: found[2] };
    history.replaceState(history.state, "", location.pathname + location.search);
  }
  // Who waits for it may only come later.
  const take = takers.get(waiting?.key);
  if (!take) return;
  const { value } = waiting;
  waiting = null;
  take(value);
}
