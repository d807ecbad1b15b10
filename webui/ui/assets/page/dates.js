// Days, times and numbers as the page's language writes them.

import { locale, say } from "./texts.js";

/** A number with its thousands told apart. */
export function number(value) {
  return new Intl.NumberFormat(locale()).format(value);
}

/** A day such as "2026-05-04" in words; the last two by name. */
export function dayInWords(day) {
  const date = new Date(`${day}T12:00:00`);
  const ago = Math.round((noon(new Date()) - noon(date)) / 86_400_000);
  if (ago === 0) return say("history.today");
  if (ago === 1) return say("history.yesterday");
  return new Intl.DateTimeFormat(locale(), { weekday: "long", day: "numeric", month: "long", year: "numeric" }).format(date);
}

/** Day and time of a picture, short. */
export function whenMade(made) {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(made));
}

function noon(date) {
  return new Date(date).setHours(12, 0, 0, 0);
}
