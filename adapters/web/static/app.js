// The Playground: wires the prompt, the settings, the stage and the history to the server.

import { $, announce, fill, h } from "/playground/static/dom.js";
import * as server from "/playground/static/server.js";
import * as jobs from "/playground/static/jobs.js";
import { Settings } from "/playground/static/settings.js";
import { Stage } from "/playground/static/stage.js";
import { Reel } from "/playground/static/reel.js";
import { commandsTab } from "/playground/static/commands.js";

const prompt = $("prompt");
const settings = new Settings(() => checkSoon());
const stage = new Stage({ remix, again, start: startFrom, cancel, remove, canStart: () => offers("init_image") });
const reel = new Reel((id) => select(id, { scroll: true }));
const showCommand = commandsTab();

let offer = null; // what the server offers: models, defaults, limits
let selected = null; // the id on the stage
let start = null; // the start picture: { file, url, strength }
let typedNames = new Set(); // the options that flags in the prompt set
let pending = null; // the request whose answer was lost, to send again under the same event
let unfollow = () => {};

// --- opening --------------------------------------------------------------------------------------------

async function open() {
  try {
    offer = await server.setup();
  } catch (error) {
    if (error.status === 401 && error.field === "key") return askForKey();
    return waitForServer(error.status === 503 ? "Fairbrush is starting…" : error.message, 1000);
  }
  if (offer.models.length === 0) return waitForServer("No backend is ready yet…", 2000);
  only("work");
  $("sign-out").hidden = !offer.key_name;
  buildModels();
  unfollow();
  unfollow = server.follow({ hello: refresh, job: hear, lost: () => linkState(false) });
  if (matchMedia("(hover: hover)").matches) prompt.focus({ preventScroll: true });
}

function only(id) {
  for (const main of ["gate", "starting", "work"]) $(main).hidden = main !== id;
}

function waitForServer(text, milliseconds) {
  $("starting-text").textContent = text;
  only("starting");
  setTimeout(open, milliseconds);
}

function askForKey() {
  unfollow();
  only("gate");
  $("sign-out").hidden = true;
  $("key").focus();
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("key-error").textContent = "";
  try {
    await server.signIn($("key").value);
    $("key").value = "";
    await open();
  } catch (error) {
    $("key-error").textContent = error.message;
    $("key").focus();
  }
});

$("sign-out").addEventListener("click", async () => {
  await server.signOut();
  location.reload();
});

function linkState(ok) {
  const line = $("link-state");
  line.textContent = ok ? "" : "Reconnecting…";
  line.classList.toggle("lost", !ok);
}

// --- the model ------------------------------------------------------------------------------------------

const model = () => offer.models.find((one) => one.id === $("model").value) ?? offer.models[0];
const offers = (param) => offer.params[model().id].includes(param);

function buildModels() {
  const before = $("model").value;
  fill($("model"), offer.models.map((one) => h("option", { value: one.id }, one.title)));
  if (offer.models.some((one) => one.id === before)) $("model").value = before;
  $("model-pick").hidden = offer.models.length < 2;
  showModel();
}

function showModel() {
  const one = model();
  $("model-title").textContent = one.title;
  const licence = one.licence && (one.commercial ? one.licence : `${one.licence}, not for commercial use`);
  $("model-facts").textContent = [`${one.width} × ${one.height}`, one.steps > 1 ? `${one.steps} steps` : "1 step", licence].filter(Boolean).join(" · ");
  $("demo").hidden = !one.demo && !one.advice;
  fill($("demo"), one.demo && h("strong", {}, "A small demonstration model."), one.demo && " ", withCode(one.advice));
  fill($("examples"), one.examples.map((text) =>
    h("button", { type: "button", class: "example", onclick: () => { setPrompt(text); prompt.focus(); } }, text)));
  $("attach").hidden = !offers("init_image");
  if (!offers("init_image")) dropStart();
  settings.build(one, offer.defaults[one.id], offer.params[one.id], offer.limits, offer.styles);
}

/** A text in which `code` stands between backticks. */
function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

$("model").addEventListener("change", showModel);

// --- the prompt -----------------------------------------------------------------------------------------

function setPrompt(text) {
  prompt.value = text;
  prompt.dispatchEvent(new Event("input"));
}

prompt.addEventListener("input", () => {
  grow();
  promptError("");
  checkSoon();
});

function grow() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
}

function promptError(text) {
  $("prompt-error").textContent = text;
  prompt.toggleAttribute("aria-invalid", Boolean(text));
}

function said() {
  const options = settings.said();
  if ($("model").value !== offer.models[0].id) options.model = $("model").value;
  if (start) options.strength = start.strength;
  return options;
}

let checkTimer = 0;
let checkRun = 0;

/** Shortly after the last key: what the flags in the prompt mean, and the command for the API tab. */
function checkSoon() {
  clearTimeout(checkTimer);
  checkTimer = setTimeout(check, 200);
}

async function check() {
  if (!offer) return;
  const run = ++checkRun;
  if (!prompt.value.trim()) return showChecked({}, null, "Write a prompt first.");
  const { strength: _, ...options } = said();
  try {
    const { typed, command, problem } = await server.check(prompt.value, options);
    if (run !== checkRun) return;
    const note = start ? "The command line starts from no picture." : "";
    if (problem) showChecked({}, null, problem);
    else showChecked(typed, command, note);
  } catch {
    // Only a help: what is wrong is said when the request is sent.
  }
}

function showChecked(typed, command, note) {
  const names = Object.keys(typed).filter((name) => name !== "prompt");
  typedNames = new Set(names);
  settings.typed(names);
  $("typed").textContent = names.length ? `${names.length === 1 ? "1 flag" : `${names.length} flags`} in the prompt` : "";
  showCommand(command, note);
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});

const isMac = /Mac|iP(hone|ad)/.test(navigator.platform);
$("shortcut").textContent = isMac ? "⌘ ↵" : "Ctrl ↵";
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("work").hidden) {
    event.preventDefault();
    generate();
  }
});

async function generate() {
  const button = $("generate");
  if (button.disabled) return;
  promptError("");
  settings.clearErrors();
  if (!prompt.value.trim()) {
    promptError("Write what the picture should show.");
    return prompt.focus();
  }
  button.disabled = true;
  try {
    accept(await send(JSON.stringify([prompt.value, said(), start?.url])));
  } catch (error) {
    if (error.field) await check(); // what was typed as a flag is corrected where it was typed
    refused(error);
  } finally {
    button.disabled = false;
  }
}

/** Send it; where the answer was lost, pressing again sends the same event, so it is never made twice. */
async function send(content) {
  const event = pending?.content === content ? pending.event : server.newEvent();
  pending = { content, event };
  try {
    const ticket = await server.submit(event, prompt.value, said(), start?.file);
    pending = null;
    return ticket;
  } catch (error) {
    if (error.status !== 0) pending = null;
    throw error;
  }
}

function accept(ticket) {
  const job = jobs.learn(ticket);
  announce("Accepted");
  select(job.id, { scroll: true });
}

function refused(error) {
  if (error.status === 401) return error.field === "key" ? askForKey() : promptError(error.message);
  if (error.field && !typedNames.has(error.field) && settings.refuse(error.field, error.message)) return;
  promptError(error.message);
  prompt.focus();
}

// --- the start picture ----------------------------------------------------------------------------------

$("attach").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files[0]) takePicture($("file").files[0]);
  $("file").value = "";
});

/** A picture that was chosen or dropped: its recipe is offered where it has one. */
async function takePicture(file) {
  if (file.size > offer.limits.image_bytes) {
    return promptError(`That picture is too large: at most ${Math.floor(offer.limits.image_bytes / 2 ** 20)} MB.`);
  }
  try {
    const { remix } = await server.recipe(file);
    if (offers("init_image")) setStart(file, remix);
    else if (remix) fillFrom(remix);
    else promptError("That picture carries no recipe.");
  } catch (error) {
    promptError(error.message);
  }
}

function setStart(file, remix = null) {
  dropStart();
  start = { file, url: URL.createObjectURL(file), strength: 0.6 };
  const value = h("output", {}, "0.6");
  const slider = h("input", { type: "range", id: "strength", min: 0.05, max: 1, step: 0.05, value: 0.6,
    oninput: () => { start.strength = Number(slider.value); value.textContent = slider.value; checkSoon(); } });
  fill($("start"),
    h("img", { src: start.url, alt: "Start picture" }),
    h("div", { class: "start-words" },
      h("label", { for: "strength" }, "Start from this picture, change it by ", value),
      slider,
      h("p", { class: "hint" }, "Low keeps it, high repaints it.")),
    remix && h("button", { type: "button", class: "quiet", onclick: () => { dropStart(); fillFrom(remix); } }, "Use its recipe instead"),
    h("button", { type: "button", class: "quiet", onclick: dropStart, "aria-label": "Remove the start picture" }, "Remove"));
  $("start").hidden = false;
  checkSoon();
}

function dropStart() {
  if (start) URL.revokeObjectURL(start.url);
  start = null;
  $("start").hidden = true;
  fill($("start"));
  if (offer) checkSoon();
}

let dragDepth = 0;
const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

document.addEventListener("dragenter", (event) => {
  if (!carriesFile(event) || $("work").hidden) return;
  dragDepth += 1;
  $("drop").hidden = false;
});
document.addEventListener("dragleave", () => {
  dragDepth = Math.max(0, dragDepth - 1);
  if (dragDepth === 0) $("drop").hidden = true;
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragDepth = 0;
  $("drop").hidden = true;
  const file = event.dataTransfer?.files[0];
  if (file && !$("work").hidden) takePicture(file);
});

// --- what the stage's buttons do --------------------------------------------------------------------------

function remix(job, picture) {
  fillFrom(picture?.remix ?? job.remix);
}

function fillFrom({ text, options }) {
  if (options.model && offer.models.some((one) => one.id === options.model)) {
    $("model").value = options.model;
    showModel();
  }
  settings.fill(options);
  setPrompt(text);
  openTab($("tab-playground"));
  $("panel").open = $("panel").open || wide.matches;
  prompt.focus();
  $("composer").scrollIntoView({ block: "nearest" });
}

async function again(job) {
  await attempt(async () => accept(await server.again(job.id)));
}

async function cancel(job) {
  await attempt(async () => jobs.learn(await server.cancel(job.id)));
}

async function remove(job) {
  await attempt(async () => {
    await server.remove(job.id);
    jobs.forget(job.id);
  });
}

async function startFrom(job, picture) {
  await attempt(async () => {
    const answer = await fetch(server.pictureAt(picture.name));
    const blob = await answer.blob();
    setStart(new File([blob], "start", { type: blob.type }));
    prompt.focus();
  });
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    refused(error);
  }
}

// --- requests -------------------------------------------------------------------------------------------

function select(id, { scroll = false } = {}) {
  selected = id;
  stage.show(jobs.get(id) ?? null);
  reel.show(jobs.all(), selected);
  if (scroll) $("stage").firstElementChild?.scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
}

jobs.watch((job, isNew, isGone) => {
  if (isGone && job.id === selected) selected = jobs.all()[0]?.id ?? null;
  if (job.id === selected || isGone) stage.show(jobs.get(selected) ?? null);
  drawSoon();
});

let drawing = 0;

/** The history at most once a frame, however many pieces of news come at once. */
function drawSoon() {
  if (drawing) return;
  drawing = requestAnimationFrame(() => {
    drawing = 0;
    $("work").classList.toggle("begun", jobs.all().length > 0);
    reel.show(jobs.all(), selected);
    showTitle();
  });
}

function showTitle() {
  const active = jobs.all().filter((job) => !jobs.ended(job));
  const running = active.find((job) => job.state === "running");
  const part = running ? `${Math.round((running.progress?.fraction ?? 0) * 100)} % · ` : active.length ? "… " : "";
  document.title = `${part}Fairbrush Playground`;
}

/** News from the stream. */
function hear(news) {
  const before = jobs.get(news.id);
  const wasOpen = before && !jobs.ended(before);
  const job = jobs.learn(news);
  if (wasOpen && jobs.ended(job)) announce(job.state === "done" ? "Ready" : job.line || job.state);
  if (!before || !before.remix) complete(job.id);
}

/** What the stream does not say: what was asked for, and when. */
async function complete(id) {
  try {
    jobs.learn(await server.show(id));
  } catch (error) {
    if (error.status === 404) jobs.forget(id);
  }
}

/** The stream is open: catch up with what happened before, or while it was away. */
async function refresh() {
  linkState(true);
  try {
    const { jobs: latest, more } = await server.history();
    latest.forEach((job) => jobs.learn(job));
    if (jobs.all().length <= latest.length) $("more").hidden = !more;
    const listed = new Set(latest.map((job) => job.id));
    jobs.all().filter((job) => !jobs.ended(job) && !listed.has(job.id)).forEach((job) => complete(job.id));
    if (selected === null && latest.length) select(jobs.all()[0].id);
    if (selected === null) select(null);
  } catch (error) {
    if (error.status === 401) askForKey();
    else linkState(false);
  }
}

$("more").addEventListener("click", async () => {
  await attempt(async () => {
    const { jobs: older, more } = await server.history(jobs.oldest());
    older.forEach((job) => jobs.learn(job));
    $("more").hidden = !more;
  });
});

// --- tabs, panel ----------------------------------------------------------------------------------------

const tabs = [$("tab-playground"), $("tab-api")];

function openTab(tab) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !chosen;
  }
}

for (const tab of tabs) {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const next = tabs[1 - tabs.indexOf(tab)];
    openTab(next);
    next.focus();
  });
}

const wide = matchMedia("(min-width: 900px)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const fold = () => ($("panel").open = wide.matches);
wide.addEventListener("change", fold);
$("panel").querySelector("summary").addEventListener("click", (event) => {
  if (wide.matches) event.preventDefault(); // beside the prompt it stays open
});
fold();

open();
