// How long something lasts, as people say it: to the minute.

import { say } from "./texts.js";

/** Words for so many seconds; the last minute counts as one. */
export function timeLeft(seconds) {
  const minutes = Math.max(1, Math.round(seconds / 60));
  const hours = Math.floor(minutes / 60);
  if (!hours) return say("time.short", { minutes });
  return minutes % 60 ? say("time.hours", { hours, minutes: minutes % 60 }) : say("time.whole", { hours });
}
