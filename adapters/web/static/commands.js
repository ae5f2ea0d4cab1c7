// The API tab: what exists beside this page, shown with the settings on screen.

import { $, copyButton, h } from "/playground/static/dom.js";

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

/** Build the tab; returns what shows a command, or with null that there is none yet. */
export function commandsTab() {
  const code = h("code", { id: "command" });
  const hint = h("p", { class: "hint", id: "command-note" });
  const button = copyButton("Copy", () => code.textContent);
  const flags = FLAGS.map(([flag, what]) => h("div", {}, h("dt", {}, h("code", {}, flag)), h("dd", {}, what)));
  $("view-api").append(
    h("h2", {}, "The same from the command line"),
    h("p", { class: "hint" }, "It follows the prompt and the settings on the Playground tab, and works where Fairbrush is installed. A seed makes it the same picture each time."),
    h("div", { class: "code" }, h("pre", { tabIndex: 0, "aria-label": "Command" }, code), button),
    hint,
    h("h2", {}, "Flags"),
    h("p", { class: "hint" }, "They work in the prompt box here and on the command line. A flag in the prompt wins over the panel."),
    h("dl", { class: "flags" }, flags));
  return (command, note = "") => {
    code.textContent = command ?? "";
    button.hidden = !command;
    hint.textContent = note;
  };
}
