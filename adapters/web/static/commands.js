// The API tab: the same picture from a program or from the command line, with the settings on screen.

import { $, copyButton, h } from "/playground/static/dom.js";
import { FORMATS, LANGUAGES, snippet } from "/playground/static/snippets.js";

const FLAGS = [
  ["--size 768x512", "width and height"],
  ["--ar 16:9", "a shape, at the model's own number of pixels"],
  ["--steps 30", "inference steps"],
  ["--guidance 7.5", "how closely to follow the prompt; also --cfg"],
  ["--seed 42", "the same seed gives the same picture"],
  ["--count 4", "how many pictures; also -n 4"],
  ["--negative blurry, text", "what to keep out; also --no"],
  ["--scheduler Euler a", "also --sampler"],
  ["{red, blue}", "one request for each word between the braces"],
];
const KEPT = "fairbrush-api";

/** A block of code with its copy button and a line below it. */
function codeBlock(id, label) {
  const code = h("code", { id });
  const note = h("p", { class: "hint", id: `${id}-note` });
  const button = copyButton("Copy", () => code.textContent);
  const show = (text, said = "") => {
    code.textContent = text ?? "";
    button.hidden = !text;
    note.textContent = said;
  };
  return { show, parts: [h("div", { class: "code" }, h("pre", { tabIndex: 0, "aria-label": label }, code), button), note] };
}

/** A row of buttons of which one is pressed. */
function choice(label, options, chosen, change) {
  const buttons = options.map(([value, text]) => h("button", { type: "button", class: "quiet pick", "aria-pressed": String(value === chosen),
    onclick: () => {
      buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.value === value)));
      change(value);
    }, value }, text));
  return h("div", { class: "picks", role: "group", "aria-label": label }, buttons);
}

/** What was chosen last, in this browser. */
function kept() {
  const [format, language] = (localStorage.getItem(KEPT) ?? "").split(" ");
  return {
    format: FORMATS.some((one) => one.id === format) ? format : FORMATS[0].id,
    language: LANGUAGES.some(([id]) => id === language) ? language : LANGUAGES[0][0],
  };
}

/**
 * Build the tab. Returns what shows what was checked: {command, request, note}, the first two null while there is
 * none; hasPicture: a start picture is chosen, which programs would have to send themselves.
 */
export function commandsTab() {
  const state = { ...kept(), request: null, note: "", hasPicture: false };
  const program = codeBlock("program", "Program");
  const command = codeBlock("command", "Command");
  const about = h("p", { class: "hint" });
  const draw = () => {
    const format = FORMATS.find((one) => one.id === state.format);
    about.textContent = format.about;
    const { request } = state;
    program.show(request && snippet(state.format, state.language, location.origin, request), [request ? cautions(format, state) : "", state.note].filter(Boolean).join(" "));
    localStorage.setItem(KEPT, `${state.format} ${state.language}`);
  };
  $("view-api").append(
    h("h2", {}, "The same from a program"),
    h("p", { class: "hint" }, "It follows the prompt and the settings on the Playground tab. Every call needs a key, which ",
      h("code", {}, "fairbrush key create NAME"), " prints. All that is served: ", h("a", { href: "/docs" }, "the API's pages"), "."),
    h("div", { class: "choices" },
      choice("Format", FORMATS.map(({ id, title }) => [id, title]), state.format, (value) => { state.format = value; draw(); }),
      choice("Language", LANGUAGES, state.language, (value) => { state.language = value; draw(); })),
    about,
    ...program.parts,
    h("h2", {}, "The same from the command line"),
    h("p", { class: "hint" }, "Where Fairbrush is installed. A seed makes it the same picture each time."),
    ...command.parts,
    h("h2", {}, "Flags"),
    h("p", { class: "hint" }, "They work in the prompt box here, in chats and on the command line. A flag in the prompt wins over the panel. In the APIs above a prompt is taken as it is."),
    h("dl", { class: "flags" }, FLAGS.map(([flag, what]) => h("div", {}, h("dt", {}, h("code", {}, flag)), h("dd", {}, what)))));
  return (checked) => {
    Object.assign(state, { request: checked.request, note: checked.note, hasPicture: Boolean(checked.hasPicture) });
    draw();
    command.show(checked.command, checked.request && checked.hasPicture ? "start.png is your start picture." : checked.note);
  };
}

/** What the program leaves out. */
function cautions({ id, title, lacks }, { request, hasPicture }) {
  const said = [];
  if (lacks.includes("scheduler") && request.scheduler) said.push(`${title}'s format has no scheduler: it is left out.`);
  if (id === "openai" && request.prompts.length > 1) said.push(`This format takes one prompt: only the first of the ${request.prompts.length} is sent.`);
  if (hasPicture) said.push("The start picture is left out.");
  return said.join(" ");
}
