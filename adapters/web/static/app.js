// The Playground: wires the prompt, the settings, the stage and the history to the server.

import { $, announce } from "/playground/static/dom.js";
import * as server from "/playground/static/server.js";
import * as jobs from "/playground/static/jobs.js";
import { Models } from "/playground/static/models.js";
import { openTab } from "/playground/static/tabs.js";
import { Settings } from "/playground/static/settings.js";
import { Stage } from "/playground/static/stage.js";
import { Start, takePictures } from "/playground/static/start.js";
import { Reel } from "/playground/static/reel.js";
import { commandsTab } from "/playground/static/commands.js";

const prompt = $("prompt");
const settings = new Settings(() => checkSoon());
const stage = new Stage({ remix, again, start: startFrom, cancel, remove, canStart: () => offers("init_image") });
const reel = new Reel((id) => select(id, { scroll: true }));
const showCommand = commandsTab();
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const models = new Models(() => showModel(), (text) => { setPrompt(text); prompt.focus(); });
const start = new Start(() => checkSoon(), (remix) => fillFrom(remix));
takePictures(takePicture, () => !$("work").hidden);

let offer = null; // what the server offers: models, defaults, limits
let selected = null; // the id on the stage
let typedNames = new Set(); // the options that flags in the prompt set
let pending = null; // the request whose answer was lost, to send again under the same event
let unfollow = null; // ends the stream of news, where one is open

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
  follow();
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

function follow() {
  unfollow?.();
  unfollow = server.follow({ hello: refresh, job: hear, lost: () => linkState(false) });
}

// A browser opens few connections to one server, so a page that nobody looks at and that waits for nothing
// gives its own back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && jobs.all().every(jobs.ended)) {
    unfollow?.();
    unfollow = null;
  } else if (!document.hidden && !unfollow && !$("work").hidden) follow();
});

function askForKey() {
  unfollow?.();
  unfollow = null;
  only("gate");
  $("plain").hidden = window.isSecureContext;
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

let lost = false;

function linkState(ok) {
  lost = !ok;
  const line = $("link-state");
  line.textContent = ok ? "" : "Reconnecting…";
  line.classList.toggle("lost", !ok);
}

// --- the model ------------------------------------------------------------------------------------------

const offers = (param) => offer.params[models.chosen.id].includes(param);

function buildModels() {
  models.build(offer.models);
  showModel();
}

function showModel() {
  const one = models.chosen;
  $("attach").hidden = !offers("init_image");
  if (!offers("init_image")) start.drop();
  settings.build(one, offer.defaults[one.id], offer.params[one.id], offer.limits, offer.styles);
}

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
  if (models.chosen.id !== offer.models[0].id) options.model = models.chosen.id;
  if (start.file) options.strength = start.strength;
  return options;
}

const EXAMPLE = "a red fox in snow"; // what the API tab shows while nothing is written

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
  const words = prompt.value.trim() ? prompt.value : EXAMPLE;
  try {
    const { typed, command, request, problem } = await server.check(words, said());
    if (run !== checkRun) return;
    const line = start.file && command ? `${command} --image start.png` : command;
    const note = problem || (words === EXAMPLE ? "An example: what you write takes its place." : "");
    showChecked(typed ?? {}, { command: line, request, note, hasPicture: start.file });
  } catch {
    // Only a help: what is wrong is said when the request is sent.
  }
}

function showChecked(typed, { command = null, request = null, note = "", hasPicture = false }) {
  const names = Object.keys(typed).filter((name) => name !== "prompt");
  typedNames = new Set(names);
  settings.typed(names);
  $("typed").textContent = names.length ? `${names.length === 1 ? "1 flag" : `${names.length} flags`} in the prompt` : "";
  showCommand({ command, request, note, hasPicture });
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
    accept(await send(JSON.stringify([prompt.value, said(), start.url])));
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
    const ticket = await server.submit(event, prompt.value, said(), start.file);
    pending = null;
    return ticket;
  } catch (error) {
    if (error.status !== 0) pending = null;
    throw error;
  }
}

function accept(ticket) {
  const job = jobs.learn(ticket);
  select(job.id, { scroll: true });
}

function refused(error) {
  if (error.status === 401) return error.field === "key" ? askForKey() : promptError(error.message);
  if (error.field && !typedNames.has(error.field) && settings.refuse(error.field, error.message)) return;
  promptError(error.message);
  prompt.focus();
}

// --- the start picture ----------------------------------------------------------------------------------

/** A picture that was chosen or dropped: its recipe is offered where it has one. */
async function takePicture(file) {
  if (file.size > offer.limits.image_bytes) {
    return promptError(`That picture is too large: at most ${Math.floor(offer.limits.image_bytes / 2 ** 20)} MB.`);
  }
  try {
    const { remix } = await server.recipe(file);
    if (offers("init_image")) start.set(file, remix);
    else if (remix) fillFrom(remix);
    else promptError("That picture carries no recipe.");
  } catch (error) {
    promptError(error.message);
  }
}

// --- what the stage's buttons do --------------------------------------------------------------------------

function remix(job, picture) {
  fillFrom(picture?.remix ?? job.remix);
}

function fillFrom({ text, options }) {
  if (options.model) models.choose(options.model);
  settings.fill(options);
  setPrompt(text);
  openTab($("tab-playground"));
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
    start.set(new File([blob], "start", { type: blob.type }));
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
  const back = lost;
  linkState(true);
  try {
    if (back) await renew();
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

/** After a restart there may be other models. */
async function renew() {
  const now = await server.setup();
  if (JSON.stringify(now) === JSON.stringify(offer) || now.models.length === 0) return;
  offer = now;
  buildModels();
}

$("more").addEventListener("click", async () => {
  await attempt(async () => {
    const { jobs: older, more } = await server.history(jobs.oldest());
    older.forEach((job) => jobs.learn(job));
    $("more").hidden = !more;
  });
});

open();
