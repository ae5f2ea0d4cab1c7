// The right-hand panel. A field that is left at the model's own value is not sent, so that flags in the prompt
// and the receipt both read as people mean them.

import { $, fill, h, icon } from "/playground/static/dom.js";

const SHAPES = [["1:1", 1, 1], ["4:3", 4, 3], ["3:4", 3, 4], ["16:9", 16, 9], ["9:16", 9, 16]];

/** What one field is about: its control is made by `make`, its words by the model. */
const WORDS = {
  steps: ["Inference steps", "More steps are finer, and slower."],
  guidance_scale: ["Guidance scale", "Higher follows the prompt more closely."],
  seed: ["Seed", "The same seed gives the same picture."],
  size: ["Size", "Width and height in pixels."],
  count: ["Count", "Pictures, each with the next seed."],
  negative_prompt: ["Negative prompt", "What to keep out of the picture."],
  scheduler: ["Scheduler", "How noise becomes a picture, step by step."],
  style: ["Style", "A preset that adds words to the prompt."],
};
const FIELD_OF = { width: "size", height: "size", aspect: "size" };

export class Settings {
  constructor(changed) {
    this.changed = changed;
    this.controls = {};
    this.rows = {};
    this.root = $("fields");
    this.root.addEventListener("input", () => this.notice());
  }

  /** Build the fields for a model. What was set before is kept where it still means something. */
  build(model, defaults, params, limits, styles) {
    const before = this.controls.steps ? this.said() : {};
    Object.assign(this, { model, defaults, limits, rows: {}, controls: {} });
    const has = (name) => params.includes(name);
    fill(this.root,
        has("steps") && this.slider("steps", limits.steps, 1, defaults.steps),
        has("guidance_scale") && this.slider("guidance_scale", limits.guidance, 0.1, defaults.guidance),
        has("seed") && this.seed(),
        this.size(),
        this.slider("count", limits.count, 1, 1),
        has("negative_prompt") && this.negative(),
        has("scheduler") && model.schedulers.length > 0 && this.scheduler(),
        styles.length > 0 && this.choice("style", [["", "None"], ...styles.map((name) => [name, name])]),
        h("button", { type: "button", class: "quiet reset", onclick: () => this.reset() }, "Reset settings"));
    this.fill(before);
  }

  // --- the fields ---

  /** A field with its words. body: what holds the control, where it is not alone; beside: next to the label. */
  row(name, control, body = control, beside = null) {
    const [label, hint] = WORDS[name];
    const error = h("p", { class: "error", id: `${name}-error`, role: "alert" });
    const note = h("span", { class: "from-prompt", hidden: true }, "set in the prompt");
    control.setAttribute("aria-describedby", `${name}-hint ${name}-error`);
    const row = h("div", { class: `field field-${name}` },
      h("div", { class: "field-head" }, h("label", { for: control.id }, label), note, beside),
      body,
      h("p", { class: "hint", id: `${name}-hint` }, hint),
      error);
    this.rows[name] = Object.assign(row, { note, error });
    return row;
  }

  slider(name, [low, high], step, value) {
    const range = h("input", { type: "range", id: name, min: low, max: high, step, value });
    const exact = h("input", { type: "number", class: "exact", min: low, max: high, step: name === "guidance_scale" ? "any" : 1,
      value, "aria-label": `${WORDS[name][0]}, exact`, inputMode: "decimal" });
    const paint = () => range.style.setProperty("--part", `${((range.value - low) / (high - low)) * 100}%`);
    range.addEventListener("input", () => { exact.value = range.value; paint(); });
    exact.addEventListener("input", () => { range.value = exact.value; paint(); });
    this.controls[name] = {
      get: () => (exact.value === "" || Number(exact.value) === value ? undefined : Number(exact.value)),
      set: (given) => {
        exact.value = given ?? value;
        range.value = given ?? value;
        paint();
      },
      element: exact,
    };
    paint();
    return this.row(name, range, range, exact);
  }

  seed() {
    const input = h("input", { type: "text", id: "seed", placeholder: "random", inputMode: "numeric", autocomplete: "off" });
    const put = (value) => { input.value = value; this.notice(); };
    const roll = h("button", { type: "button", class: "quiet square", title: "Choose a seed and keep it", "aria-label": "Choose a seed and keep it",
      onclick: () => put(crypto.getRandomValues(new Uint32Array(1))[0]) },
      icon("M5 3h10a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2Z", "M7 7h.01M13 7h.01M10 10h.01M7 13h.01M13 13h.01"));
    const clear = h("button", { type: "button", class: "quiet square clear", title: "A random seed each time", "aria-label": "A random seed each time",
      onclick: () => { put(""); input.focus(); } }, icon("m6 6 8 8M14 6l-8 8"));
    this.controls.seed = {
      get: () => (input.value.trim() === "" ? undefined : wholeNumber(input.value)),
      set: (given) => (input.value = given ?? ""),
      element: input,
    };
    return this.row("seed", input, h("div", { class: "seed" }, input, clear, roll));
  }

  size() {
    const { defaults, limits } = this;
    const side = (id, label, value) => h("input", { type: "number", id, value, min: limits.side[0], max: limits.side[1],
      step: limits.side_multiple, "aria-label": label, inputMode: "numeric" });
    const width = side("width", "Width in pixels", defaults.width);
    const height = side("height", "Height in pixels", defaults.height);
    const shapes = SHAPES.map(([label, across, down]) => {
      const drawn = h("span", { class: "shape", "aria-hidden": "true" });
      drawn.style.setProperty("--across", across / Math.max(across, down));
      drawn.style.setProperty("--down", down / Math.max(across, down));
      const [w, t] = this.sides(across / down);
      const button = h("button", { type: "button", class: "shape-pick", "aria-pressed": "false", title: `${w} × ${t}`,
        onclick: () => { width.value = w; height.value = t; this.notice(); } }, drawn, label);
      return Object.assign(button, { matches: () => Number(width.value) === w && Number(height.value) === t });
    });
    this.paintShapes = () => shapes.forEach((b) => b.setAttribute("aria-pressed", String(b.matches())));
    const isDefault = () => Number(width.value) === defaults.width && Number(height.value) === defaults.height;
    const number = (input, value) => (input.value === "" ? value : Number(input.value));
    this.controls.size = {
      get: () => (isDefault() ? undefined : [number(width, defaults.width), number(height, defaults.height)]),
      set: (given) => { [width.value, height.value] = given ?? [defaults.width, defaults.height]; },
      element: width,
    };
    const swap = h("button", { type: "button", class: "quiet square", title: "Swap width and height", "aria-label": "Swap width and height",
      onclick: () => { [width.value, height.value] = [height.value, width.value]; this.notice(); } },
      icon("M4 7h11m-3-3 3 3-3 3M16 13H5m3-3-3 3 3 3"));
    const body = h("div", { class: "size" },
      h("div", { class: "shapes", role: "group", "aria-label": "Shape" }, shapes),
      h("div", { class: "sides" }, width, h("span", { "aria-hidden": "true" }, "×"), height, swap));
    return this.row("size", width, body);
  }

  /** Sides of a shape at the model's own number of pixels, in steps that are allowed. */
  sides(ratio) {
    const { defaults, limits } = this;
    const fit = (side) => {
      const stepped = Math.round(side / limits.side_multiple) * limits.side_multiple;
      return Math.min(Math.max(stepped, limits.side[0]), limits.side[1]);
    };
    const area = defaults.width * defaults.height;
    return [fit(Math.sqrt(area * ratio)), fit(Math.sqrt(area / ratio))];
  }

  negative() {
    const area = h("textarea", { id: "negative_prompt", rows: 2, placeholder: "blurry, text" });
    this.controls.negative_prompt = {
      get: () => area.value.trim() || undefined,
      set: (given) => (area.value = given ?? ""),
      element: area,
    };
    return this.row("negative_prompt", area);
  }

  scheduler() {
    const own = this.defaults.scheduler;
    const named = this.model.schedulers.filter((name) => name !== own).map((name) => [name, name]);
    return this.choice("scheduler", [["", own ? `${own} (the model's own)` : "The model's own"], ...named]);
  }

  choice(name, options) {
    const select = h("select", { id: name }, options.map(([value, label]) => h("option", { value }, label)));
    this.controls[name] = {
      get: () => select.value || undefined,
      set: (given) => {
        const known = options.find(([value]) => value.toLowerCase() === String(given ?? "").toLowerCase());
        select.value = known ? known[0] : "";
      },
      element: select,
    };
    return this.row(name, select);
  }

  // --- values ---

  /** The options that differ from the model's own, as the server takes them. */
  said() {
    const said = {};
    for (const [name, control] of Object.entries(this.controls)) {
      const value = control.get();
      if (value === undefined) continue;
      if (name === "size") [said.width, said.height] = value;
      else said[name] = value;
    }
    return said;
  }

  /** Set the options of a recipe or an earlier request; what it does not say goes back to the model's own. */
  fill(options) {
    for (const [name, control] of Object.entries(this.controls)) {
      if (name !== "size") control.set(options[name]);
    }
    const { width, height, aspect } = options;
    const [across, down] = aspect ? this.sides(aspect[0] / aspect[1]) : [width, height];
    this.controls.size.set(across || down ? [across ?? this.defaults.width, down ?? this.defaults.height] : undefined);
    this.notice();
  }

  reset() {
    this.fill({});
  }

  notice() {
    this.paintShapes();
    this.clearErrors();
    $("summary-now").textContent = this.summary();
    this.changed();
  }

  summary() {
    const [width, height] = this.controls.size.get() ?? [this.defaults.width, this.defaults.height];
    const steps = this.controls.steps?.get() ?? this.defaults.steps;
    const count = this.controls.count.get() ?? 1;
    return [`${width}×${height}`, this.controls.steps && `${steps} steps`, count > 1 && `${count} pictures`].filter(Boolean).join(" · ");
  }

  // --- what others say about fields ---

  /** Mark the fields that flags in the prompt set. */
  typed(names) {
    const rows = new Set(names.map((name) => FIELD_OF[name] ?? name));
    for (const [name, row] of Object.entries(this.rows)) {
      row.classList.toggle("typed-over", rows.has(name));
      row.note.hidden = !rows.has(name);
    }
  }

  /** Show an error beside its field and go there; false where the field is not in this panel. */
  refuse(field, message) {
    const name = FIELD_OF[field] ?? field;
    const row = this.rows[name];
    if (!row) return false;
    row.error.textContent = message;
    row.classList.add("wrong");
    $("panel").open = true;
    this.controls[name].element.setAttribute("aria-invalid", "true");
    this.controls[name].element.focus();
    row.scrollIntoView({ block: "nearest" });
    return true;
  }

  clearErrors() {
    for (const [name, row] of Object.entries(this.rows)) {
      row.error.textContent = "";
      row.classList.remove("wrong");
      this.controls[name]?.element.removeAttribute("aria-invalid");
    }
  }
}

/** A seed as a number where it is one; else as typed, for the server to refuse by name. */
function wholeNumber(text) {
  return /^\d{1,15}$/.test(text.trim()) ? Number(text) : text.trim();
}
