// Draws what webui/ui/view.py sends. Everything that came from outside is set as text or as an
// attribute, never as HTML.
const find = (selector) => element.querySelector(selector);
const large = find(".large");
const light = find(".light");
// Components are mounted in no particular order: those outside this one are looked up when needed.
const outside = (id) => document.getElementById(id);

let view = { busy: false, waiting: false, pictures: [], notices: [], progress: 0 };
let chosen = null;
let stopping = false;
let begun = false;
let engineLine = "";
let engineReady = false;

function draw() {
  document.body.dataset.job = stopping ? "stopping" : view.busy ? "busy" : "idle";
  document.body.toggleAttribute("data-begun", begun);
  drawPicture();
  drawProgress();
  drawStrip();
  drawProblem();
}

function drawPicture() {
  const [newest] = view.pictures;
  const picked = view.pictures.find((picture) => picture.id === chosen);
  const live = !picked && view.busy && view.preview;
  const picture = picked ?? newest;
  const source = live ? view.preview : picture?.url;
  const width = live ? view.width : picture?.width;
  const height = live ? view.height : picture?.height;
  find(".empty").hidden = Boolean(source);
  large.hidden = !source;
  large.disabled = Boolean(live);
  large.classList.toggle("live", Boolean(live));
  find(".caption").hidden = !picture || Boolean(live);
  if (!source) return;
  const image = large.firstElementChild;
  if (image.getAttribute("src") !== source) image.src = source;
  image.alt = live ? "The picture in the making" : picture.prompt || "Picture without a prompt";
  large.style.setProperty("--w", width);
  large.style.setProperty("--h", height);
  if (live) return;
  find(".facts").textContent = `Seed ${picture.seed} · ${width} × ${height}`;
  find(".seed").dataset.seed = picture.seed;
  const save = find(".save");
  save.href = picture.url;
  save.download = picture.name;
}

function drawProgress() {
  const percent = Math.round(100 * view.progress);
  const track = find(".track");
  track.style.setProperty("--done", view.progress);
  track.setAttribute("aria-valuenow", percent);
  const waits = view.waiting && !engineReady && engineLine;
  find(".headline").textContent = stopping
    ? "Stopping"
    : waits ? `Waiting for the engine: ${engineLine}` : view.headline ?? "";
  find(".stages").textContent = view.stages ?? "";
  find(".notices").textContent = view.notices.join(" ");
}

function drawStrip() {
  const strip = find(".strip");
  const known = new Map([...strip.children].map((item) => [item.dataset.id, item]));
  const shown = chosen ?? view.pictures[0]?.id;
  strip.replaceChildren(...view.pictures.map((picture) => {
    const item = known.get(picture.id) ?? tile(picture);
    item.firstElementChild.setAttribute("aria-pressed", String(picture.id === shown));
    return item;
  }));
}

function tile(picture) {
  const item = document.createElement("li");
  const choose = document.createElement("button");
  const image = document.createElement("img");
  item.dataset.id = picture.id;
  choose.type = "button";
  choose.addEventListener("click", () => { chosen = picture.id; draw(); });
  image.src = picture.url;
  image.alt = picture.prompt || "Picture without a prompt";
  image.loading = "lazy";
  image.decoding = "async";
  image.addEventListener("error", () => item.remove());
  choose.append(image);
  item.append(choose);
  return item;
}

function drawProblem() {
  const problem = outside("problem");
  if (problem) problem.textContent = view.problem?.message ?? "";
  for (const field of document.querySelectorAll(".field")) {
    const wrong = field.id === `field-${view.problem?.field}`;
    field.classList.toggle("wrong", wrong);
    for (const box of field.querySelectorAll("input, textarea")) {
      box.toggleAttribute("aria-invalid", wrong);
      if (wrong) box.setAttribute("aria-describedby", "problem");
      else box.removeAttribute("aria-describedby");
    }
  }
}

function receive() {
  if (!props.value) return;
  const before = view;
  view = props.value;
  if (!view.busy) stopping = false;
  if (view.pictures[0]?.id !== before.pictures[0]?.id) chosen = null;
  draw();
}

async function ask() {
  let status = { phase: "lost", message: "The server does not answer" };
  try {
    status = await (await fetch("status", { cache: "no-store" })).json();
  } catch {
    view = { ...view, busy: false, waiting: false, headline: "", stages: "" };
    stopping = false;
    draw();
  }
  engineReady = status.phase === "ready";
  engineLine = status.message;
  const engine = outside("engine");
  if (engine && engine.textContent !== engineLine) engine.textContent = engineLine;
  if (engine) engine.dataset.phase = status.phase;
  if (view.waiting) drawProgress();
  setTimeout(ask, document.hidden ? 10000 : engineReady ? 3000 : 700);
}

function begin() {
  chosen = null;
  view = {
    ...view, busy: true, waiting: true, headline: "", stages: "", notices: [], progress: 0,
    preview: null, problem: null,
  };
  // Stop takes the place of Generate: the second half of a double click must not hit it.
  begun = true;
  setTimeout(() => { begun = false; draw(); }, 600);
  draw();
}

document.addEventListener("click", (event) => {
  if (event.target.closest("#generate")) begin();
  if (event.target.closest("#stop")) {
    stopping = true;
    draw();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !view.busy) {
    event.preventDefault();
    outside("generate").click();
  }
  const elsewhere = light.open || document.querySelector('[role="listbox"]');
  if (event.key === "Escape" && view.busy && !stopping && !elsewhere) outside("stop").click();
});

large.addEventListener("click", () => {
  light.firstElementChild.src = large.firstElementChild.src;
  light.firstElementChild.alt = large.firstElementChild.alt;
  light.showModal();
});
light.addEventListener("click", () => light.close());

find(".seed").addEventListener("click", (event) => {
  const box = document.querySelector("#field-seed input");
  box.value = event.currentTarget.dataset.seed;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  box.focus();
});

watch("value", receive);
receive();
draw();
ask();
