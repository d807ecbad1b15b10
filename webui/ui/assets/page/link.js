// Links that carry a recipe: packed into the part of an address that is never sent to a server.

import { ask, button, el, Problem, toast } from "./dom.js";
import { onFragment } from "./fragment.js";
import { Sheet } from "./sheet.js";
import { say } from "./texts.js";

const KEY = "recipe";
const VERSION = "1";
const LONGEST = 8000; // Characters of a link with poses; mail and chat cut longer ones.
const MOST_PACKED = 16 * 1024; // Bytes.
const MOST_UNPACKED = 64 * 1024; // Bytes.
const PIECE = 256; // Bytes unpacked at a time: no more than a thousand times that can come of one.
const PICTURES = ["init", "mask"];

/** Puts a link to the recipe into the clipboard, and says what did not find room in it. */
export async function copyLink(request, defaults) {
  const { values, hasPictures } = carried(request, defaults);
  let address = await addressOf(values);
  const posed = values.controls?.length && address.length > LONGEST;
  if (posed) {
    delete values.controls;
    address = await addressOf(values);
  }
  if (address.length > longest()) {
    toast(say("link.long"));
    return;
  }
  const left = [hasPictures && say("link.pictures"), posed && say("link.poses")].filter(Boolean);
  try {
    await navigator.clipboard.writeText(address);
    toast([say("link.copied"), ...left].join(" "));
  } catch {
    // Browsers only give the clipboard to addresses they call secure.
    showLink(address, left);
  }
}

/** Asks for a saved picture's recipe, below `path`, and copies a link to it. */
export async function copyLinkOf(path, defaults) {
  try {
    const { request } = await ask(`${path}/recipe`);
    if (request) await copyLink(request, defaults);
    else toast(say("history.norecipe"));
  } catch (problem) {
    toast(problem.message);
  }
}

/** Opens links: the sheet of differences shows what each would change. */
export function openLinks(desk, compare) {
  onFragment(KEY, async (text) => {
    try {
      const values = await unpacked(text);
      const { request, report } = await ask("read/link", { method: "POST", json: { request: values } });
      // What a link does not name stands at its default.
      const unnamed = Object.entries(desk.defaults).filter(([name]) => !Object.hasOwn(values, name));
      await compare({ title: say("link.opened"), head: say("link.head"), request: { ...Object.fromEntries(unnamed), ...request }, report });
    } catch (problem) {
      toast(problem.message);
    }
  });
}

/** The values that differ from the defaults; pictures stay behind, and of LoRAs there are only names. */
function carried(request, defaults) {
  const differs = ([name, value]) => name in defaults && !PICTURES.includes(name) && JSON.stringify(value) !== JSON.stringify(defaults[name]);
  const values = Object.fromEntries(Object.entries(request).filter(differs));
  if (values.loras) values.loras = values.loras.map((choice) => ({ ...choice, name: choice.name.split(/[\\/]/).at(-1) }));
  if (values.controls) values.controls = values.controls.filter(({ picture }) => !picture);
  if (!values.controls?.length) delete values.controls;
  const hasPictures = PICTURES.some((name) => request[name]) || request.controls?.some(({ picture }) => picture);
  return { values, hasPictures };
}

async function addressOf(values) {
  return `${location.origin}${location.pathname}#${KEY}=${VERSION}.${await packed(JSON.stringify(values))}`;
}

/** Characters of the longest link that is read again. */
function longest() {
  return Math.floor((MOST_PACKED * 4) / 3);
}

async function packed(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

async function unpacked(text) {
  const [version, data, ...rest] = text.split(".");
  if (version !== VERSION && /^\d+$/.test(version)) throw new Problem(say("link.version"));
  try {
    if (rest.length || text.length > longest()) throw new RangeError();
    const binary = atob(data.replaceAll("-", "+").replaceAll("_", "/"));
    const values = JSON.parse(await inflated(Uint8Array.from(binary, (one) => one.charCodeAt(0))));
    if (values === null || typeof values !== "object" || Array.isArray(values)) throw new TypeError();
    return values;
  } catch {
    throw new Problem(say("link.damaged"));
  }
}

/** Unpacks piece by piece, and gives up as soon as it becomes too much. */
async function inflated(bytes) {
  let at = 0;
  const source = new ReadableStream({
    pull(controller) {
      if (at < bytes.length) controller.enqueue(bytes.subarray(at, at += PIECE));
      else controller.close();
    },
  });
  const reader = source.pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  for (let size = 0, part; !(part = await reader.read()).done;) {
    size += part.value.length;
    if (size > MOST_UNPACKED) {
      await reader.cancel();
      throw new RangeError();
    }
    parts.push(part.value);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(await new Blob(parts).arrayBuffer());
}

/** Shows the address to be copied by hand. */
function showLink(address, left) {
  const sheet = new Sheet("link", say("link.title"));
  const box = el("textarea", { rows: "5", readonly: true, "aria-label": say("link.title") }, address);
  const copy = () => {
    box.select();
    if (document.execCommand("copy")) {
      sheet.close();
      toast([say("link.copied"), ...left].join(" "));
    }
  };
  sheet.body.append(el("p", {}, [say("link.byhand"), ...left].join(" ")), box);
  sheet.footer.append(button(say("deed.link"), copy, { class: "primary" }));
  sheet.dialog.addEventListener("close", () => sheet.dialog.remove());
  sheet.open();
  box.select();
}
