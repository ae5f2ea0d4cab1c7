// The head of the model card: what the model is, and prompts that it draws well.

import { $, fill, h } from "/playground/static/dom.js";

/** Show a model. choose: called with an example that was clicked. */
export function drawModel(model, choose) {
  $("model-title").textContent = model.title;
  $("model-facts").textContent = facts(model).filter(Boolean).join(" · ");
  $("demo").hidden = !model.demo && !model.advice;
  fill($("demo"), model.demo && h("strong", {}, "A small demonstration model."), model.demo && " ", withCode(model.advice));
  fill($("examples"), model.examples.map((text) =>
    h("button", { type: "button", class: "example", onclick: () => choose(text) }, text)));
}

function facts({ width, height, steps, licence, commercial }) {
  return [
    `${width} × ${height}`,
    steps > 1 ? `${steps} steps` : "1 step",
    licence && (commercial ? licence : `${licence}, not for commercial use`),
  ];
}

/** A text in which `code` stands between backticks. */
function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}
