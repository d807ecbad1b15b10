// The catalogue of the page's words in the chosen language.

let words = {};
let language = "en";

/** Loads the words: the language chosen before, else the first of the browser's there is. */
export async function loadTexts(languages) {
  const wanted = [localStorage.getItem("easel.language"), ...navigator.languages.map((code) => code.split("-")[0])];
  language = wanted.find((code) => code in languages) ?? "en";
  words = await (await fetch(`texts/${language}.json`, { cache: "no-cache" })).json();
  document.documentElement.lang = language;
}

/** The code of the language in use. */
export function currentLanguage() {
  return language;
}

/** Takes another language; the page is loaded anew with everything that was typed. */
export function chooseLanguage(code) {
  localStorage.setItem("easel.language", code);
  location.reload();
}

/** The page's language as the browser's owner writes it: en-GB has its days before its months. */
export function locale() {
  return navigator.languages.find((code) => code.split("-")[0] === language) ?? language;
}

/** A value as text: a number with the language's decimal mark, its thousands together. */
export function plain(value) {
  if (typeof value !== "number") return String(value);
  return new Intl.NumberFormat(locale(), { useGrouping: false, maximumFractionDigits: 10 }).format(value);
}

/** The words of that key, `{name}` filled in. */
export function say(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? plain(values[name]) : whole));
}

/** Whether the catalogue has that key. */
export function sayable(key) {
  return key in words;
}

/** The text as it is compared: no case, no accents. */
export function folded(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().trim();
}

/** Fills the words into everything below `root` that is marked with a key. */
export function fillTexts(root) {
  for (const marked of root.querySelectorAll("[data-say]")) marked.textContent = say(marked.dataset.say);
  for (const marked of root.querySelectorAll("[data-label]")) {
    marked.setAttribute("aria-label", say(marked.dataset.label));
    if (marked.matches("button.icon")) marked.title = say(marked.dataset.label);
  }
}
