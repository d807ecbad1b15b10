// Starts the page's script: joins the recipe, the widgets, the job and the panels.

import { Brief } from "./brief.js";
import { ControlStack } from "./controls.js";
import { Brought } from "./brought.js";
import { Check } from "./check.js";
import { Desk } from "./desk.js";
import { makeCompare, whyDifferent } from "./differences.js";
import { button, el, sayLost, setText } from "./dom.js";
import { Drop } from "./drop.js";
import { Engine } from "./engine.js";
import { buildFields } from "./fields.js";
import { FilterPanel } from "./filterpanel.js";
import { buildHistory } from "./history.js";
import { Job } from "./job.js";
import { listenToKeys } from "./keys.js";
import { buildLibrary } from "./library.js";
import { copyLinkOf, openLinks } from "./link.js";
import { Look, showAdvice } from "./look.js";
import { LoraMeasures } from "./lorachart.js";
import { LoraStack } from "./loras.js";
import { Places } from "./places.js";
import { Presets } from "./presets.js";
import { buildPrompts } from "./prompt.js";
import { ShareBar } from "./sharebar.js";
import { Standing } from "./standing.js";
import { StartPanel } from "./startpanel.js";
import { Statement } from "./statement.js";
import { Strips } from "./strips.js";
import { chooseLanguage, currentLanguage, fillTexts, loadTexts, say } from "./texts.js";
import { startTheme } from "./theme.js";
import { Viewer } from "./viewer.js";
import { Ways } from "./ways.js";

const DOUBLE_CLICK = 500; // Milliseconds between its two halves, at most.

export async function start({ element, props, ...channel }) {
  startTheme(element.querySelector("#theme"));
  await loadTexts(props.languages);
  fillTexts(element);
  sayLost(() => say("server.lost"));
  languages(element.querySelector("#language"), props.languages);

  const desk = new Desk(props.fields);
  const look = new Look(desk);
  const engine = new Engine(element.querySelector("#engine"));
  const standing = new Standing();
  const job = new Job({ props, ...channel }, desk, standing);
  const viewer = new Viewer(element.querySelector(".viewer"), desk, job, engine);
  startFilter(element, { standing, engine, job });
  const places = new Places(element);
  buildPrompts(desk, look);
  const init = new Brought(desk, "init");
  buildFields(desk, look, init);
  const start = new StartPanel(element.querySelector("#start"), desk, look, init);
  const loras = new LoraStack(element.querySelector("#loras"), desk, look, job);
  const strips = new Strips(element.querySelector(".viewer"), { desk, viewer, job, standing });
  const measures = new LoraMeasures(job, desk);
  loras.rowDeeds = (row) => strips.rowDeeds(row);
  loras.panelDeeds = () => [measures.lines(), ...strips.panelDeeds()];
  loras.cardExtras = (name) => measures.extras(name, loras.shelf);
  const controls = new ControlStack(element.querySelector("#controls"), { desk, look, job, viewer, init });
  const compare = makeCompare(desk, look);
  const presets = new Presets(desk, look, () => drop.choose());
  const check = new Check(element.querySelector("#check"), places, (file) => drop.read(file));
  const drop = new Drop({ compare, bringIn: (files) => presets.bringIn(files), start: (file) => start.from("", file), check });
  new Brief();
  viewer.deeds = (picture) => [
    button(say("deed.init"), () => start.from(`/picture/${picture.id}`), { class: "link" }),
    button(say("deed.repaint"), () => start.repaint(`/picture/${picture.id}`), { class: "link" }),
    button(say("control.use"), () => controls.addPicture(`/picture/${picture.id}`), { class: "link" }),
    whyDifferent(picture, compare),
    button(say("deed.link"), () => copyLinkOf(`pictures/${picture.id}`, desk.defaults), { class: "link" }),
    button(say("deed.check"), () => check.own(picture), { class: "link" }),
  ];
  buildHistory(element.querySelector("#history"), { desk, look, places, job, compare, start, check });
  buildLibrary(element.querySelector("#library"), { desk, look, places, loras, controls, hint: element.querySelector("#first-hint") });
  openLinks(desk, compare);
  showAdvice(desk, look);
  showJob(element, job);
  showProblem(element, job, look);
  listenToKeys(element, job, places);
  element.querySelector("#restore").addEventListener("click", () => desk.change(desk.defaults));

  engine.addEventListener("lost", () => job.lose());
  engine.addEventListener("back", () => { job.resume(); viewer.refresh(); look.refresh(); loras.refresh(); controls.refresh(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) for (const seen of [look, loras, controls]) seen.refresh(); });
  job.resume();
}

/** The level beside Generate, the ways to another one, and the line of a shared page. */
function startFilter(root, { standing, engine, job }) {
  const ways = new Ways(standing);
  const panel = new FilterPanel(root.querySelector("#filter"), standing, (level) => ways.open(level));
  const share = new ShareBar(root.querySelector("#share"), standing);
  const refresh = () => { standing.refresh(); share.refresh(); };
  let [ready, busy] = [engine.ready, job.busy];
  engine.addEventListener("status", () => {
    if (engine.ready && !ready) standing.refresh();
    ready = engine.ready;
  });
  job.addEventListener("view", () => {
    // A job that was held down says that there is less to be had than this tab knows.
    if (busy && !job.busy && standing.level) standing.refresh();
    busy = job.busy;
  });
  engine.addEventListener("back", refresh);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  new Statement(standing, panel);
}

function languages(select, names) {
  select.replaceChildren(...Object.entries(names).map(([code, name]) => el("option", { value: code, lang: code }, name)));
  select.value = currentLanguage();
  select.addEventListener("change", () => chooseLanguage(select.value));
}

function showJob(root, job) {
  const generate = root.querySelector("#generate");
  const stop = root.querySelector("#stop");
  generate.addEventListener("click", () => {
    job.generate();
    // Stop takes the place of Generate: the second half of a double click must not hit it.
    stop.style.pointerEvents = "none";
    setTimeout(() => { stop.style.pointerEvents = ""; }, DOUBLE_CLICK);
  });
  stop.addEventListener("click", () => job.stop());
  let ended = 0;
  const draw = () => {
    // A job may come and go between two looks: those who wait for its end count.
    if (document.body.dataset.job !== "idle" && !job.busy) document.body.dataset.ended = ended++;
    const focused = document.activeElement === generate || document.activeElement === stop;
    generate.hidden = job.busy;
    stop.hidden = !job.busy;
    stop.disabled = job.stopping;
    // Whoever pressed one of the two by keyboard stays on the one that takes its place.
    if (focused) (job.busy ? stop : generate).focus();
    document.body.dataset.job = job.stopping ? "stopping" : job.busy ? "busy" : "idle";
  };
  job.addEventListener("view", draw);
  draw();
}

/** The sentence about what went wrong, and the field it is about. */
function showProblem(root, job, look) {
  const line = root.querySelector("#problem");
  let problem = null;
  const draw = () => {
    setText(line, problem?.message ?? "");
    for (const field of root.querySelectorAll(".field")) {
      const wrong = field.id === `field-${problem?.field?.split(".")[0]}`;
      field.classList.toggle("wrong", wrong);
      for (const box of field.querySelectorAll("input, textarea, select")) {
        if (wrong) box.setAttribute("aria-invalid", "true");
        else box.removeAttribute("aria-invalid");
      }
      if (wrong) field.closest("details:not([open])")?.setAttribute("open", "");
    }
  };
  job.addEventListener("view", () => {
    if (job.view.problem || job.busy) problem = job.view.problem;
    draw();
  });
  // A mistake is told as soon as it is made, and forgotten as soon as it is mended.
  look.addEventListener("seen", () => {
    if (job.busy) return;
    problem = look.seen.problem ?? job.problem ?? (problem?.field ? null : problem);
    draw();
  });
}
