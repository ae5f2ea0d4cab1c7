// The models on offer, as cards to choose from, and the head of the card of the one that is chosen.

import { $, fill, h } from "/playground/static/dom.js";

const MANY = 9; // models from which on a field finds them by name
const KINDS = { local: "made here", horde: "AI Horde", fal: "fal", openai: "OpenAI", a1111: "A1111", comfyui: "ComfyUI", salad: "Salad", stochastic: "Stochastic", replicate: "Replicate" };

export class Models {
  /** changed: called when another model is chosen; example: with an example prompt that was clicked. */
  constructor(changed, example) {
    Object.assign(this, { changed, example, list: [], chosen: null });
    this.root = $("models");
    this.find = $("model-find");
    this.find.addEventListener("input", () => this.narrow());
  }

  /** Show what is offered. The one that was chosen stays so where it is still there, else it is the first. */
  build(list) {
    this.list = list;
    this.chosen = list.find((one) => one.id === this.chosen?.id) ?? list[0];
    this.root.hidden = list.length < 2;
    $("models-count").textContent = `${list.length} models`;
    this.find.hidden = list.length < MANY;
    this.find.value = "";
    fill($("model-cards"), list.map((one) => this.card(one)));
    this.draw();
  }

  /** Choose a model by its id; nothing happens for one that is not offered. */
  choose(id) {
    const found = this.list.find((one) => one.id === id);
    if (!found) return;
    this.chosen = found;
    this.draw();
    this.changed();
  }

  card(one) {
    const button = h("button", { type: "button", class: "model-card", value: one.id,
      onclick: () => { this.choose(one.id); this.root.open = false; this.root.querySelector("summary").focus(); } },
      h("strong", {}, one.title),
      one.title !== one.id && h("code", {}, one.id),
      h("span", {}, [...facts(one), cost(one), one.kinds.map((kind) => KINDS[kind] ?? kind).join(", ")].filter(Boolean).join(" · ")),
      one.advice && h("span", {}, withCode(one.advice)));
    return h("li", {}, button);
  }

  draw() {
    const { title, demo, advice, examples } = this.chosen;
    $("model-title").textContent = title;
    $("model-facts").textContent = [...facts(this.chosen), cost(this.chosen)].filter(Boolean).join(" · ");
    $("demo").hidden = !demo && !advice;
    fill($("demo"), demo && h("strong", {}, "A small demonstration model."), demo && " ", withCode(advice));
    fill($("examples"), examples.map((text) =>
      h("button", { type: "button", class: "example", onclick: () => this.example(text) }, text)));
    for (const button of this.root.querySelectorAll(".model-card")) button.setAttribute("aria-pressed", String(button.value === this.chosen.id));
  }

  narrow() {
    const words = this.find.value.toLowerCase().split(/\s+/);
    for (const item of $("model-cards").children) {
      const text = item.textContent.toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
    }
  }
}

function facts({ width, height, steps, licence, commercial }) {
  return [
    `${width} × ${height}`,
    steps > 1 ? `${steps} steps` : "1 step",
    commercial ? licence : `${licence || "licensed"}, not for commercial use`,
  ];
}

/** What a picture at the model's own size costs. */
function cost({ price }) {
  if (price === null || (price.picture === 0 && price.second === 0)) return "";
  if (price.second > 0) return `$${(price.second * 60).toPrecision(2)} a minute of work`;
  return price.picture < 0.01 ? "under $0.01 a picture" : `about $${price.picture.toFixed(2)} a picture`;
}

/** A text in which `code` stands between backticks. */
function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}
