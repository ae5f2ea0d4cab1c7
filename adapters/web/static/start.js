// A picture to start from: chosen, dropped on the page, or one of those that were made here.

import { $, fill, h } from "/playground/static/dom.js";

export const DEFAULT_STRENGTH = 0.6;

export class Start {
  /** changed: called when it is set, changed or removed; use: called with a recipe that is to fill the form. */
  constructor(changed, use) {
    this.changed = changed;
    this.use = use;
    this.file = null;
    this.strength = DEFAULT_STRENGTH;
    this.url = "";
  }

  /** Start from this file. remix: its recipe, where it carries one. */
  set(file, remix = null) {
    this.drop();
    Object.assign(this, { file, strength: DEFAULT_STRENGTH, url: URL.createObjectURL(file) });
    const value = h("output", {}, String(DEFAULT_STRENGTH));
    const slider = h("input", { type: "range", id: "strength", min: 0.05, max: 1, step: 0.05, value: DEFAULT_STRENGTH });
    const paint = () => slider.style.setProperty("--part", `${((slider.value - 0.05) / 0.95) * 100}%`);
    slider.addEventListener("input", () => {
      this.strength = Number(slider.value);
      value.textContent = slider.value;
      paint();
      this.changed();
    });
    paint();
    fill($("start"),
      h("img", { src: this.url, alt: "Start picture" }),
      h("div", { class: "start-words" },
        h("label", { for: "strength" }, "Start from this picture, change it by ", value),
        slider,
        h("p", { class: "hint" }, "Low keeps it, high repaints it.")),
      remix && h("button", { type: "button", class: "quiet", onclick: () => { this.drop(); this.use(remix); } }, "Use its recipe instead"),
      h("button", { type: "button", class: "quiet", onclick: () => this.drop(), "aria-label": "Remove the start picture" }, "Remove"));
    $("start").hidden = false;
    this.changed();
  }

  /** Start from nothing. */
  drop() {
    if (this.url) URL.revokeObjectURL(this.url);
    Object.assign(this, { file: null, url: "" });
    $("start").hidden = true;
    fill($("start"));
    this.changed();
  }
}

/** Call `take` with each picture that is chosen, or dropped or pasted anywhere while `ready()`. */
export function takePictures(take, ready) {
  $("attach").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) take($("file").files[0]);
    $("file").value = "";
  });
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (!file || !ready()) return;
    event.preventDefault();
    take(file);
  });
  let depth = 0;
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const cover = (by) => {
    depth = Math.max(0, depth + by);
    $("drop").hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => carriesFile(event) && ready() && cover(1));
  document.addEventListener("dragleave", (event) => carriesFile(event) && cover(-1));
  document.addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    cover(-depth);
    const file = event.dataTransfer.files[0];
    if (file && ready()) take(file);
  });
}
