// The central panel: one request, from its place in the queue to its pictures and their recipe.

import { $, announce, copyButton, fill, h } from "/playground/static/dom.js";
import { ended } from "/playground/static/jobs.js";
import { pictureAt, thumbnailAt } from "/playground/static/server.js";

const RECIPE = [
  ["Prompt", (r) => r.prompt],
  ["Negative", (r) => r.negative_prompt],
  ["Seed", (r) => r.seed],
  ["Steps", (r) => r.steps],
  ["Guidance", (r) => r.guidance_scale],
  ["Size", (r) => `${r.width} × ${r.height}`],
  ["Scheduler", (r) => r.scheduler],
  ["Strength", (r) => r.strength],
  ["Model", (r) => r.model],
  ["Made", (r) => r.created && new Date(r.created).toLocaleString()],
];

export class Stage {
  /** actions: remix, again, start, cancel, remove: what the buttons do, each given the request and a picture. */
  constructor(actions) {
    this.actions = actions;
    this.root = $("stage");
    this.job = null;
    this.chosen = 0;
    this.drawn = "";
  }

  /** Show a request, or with null the empty easel. */
  show(job) {
    if (job?.id !== this.job?.id) this.chosen = 0;
    this.job = job;
    const form = job ? `${job.id} ${ended(job) ? job.state + (job.pictures?.length ?? 0) : "active"} ${this.chosen}` : "empty";
    if (form !== this.drawn) {
      this.drawn = form;
      fill(this.root, job ? this.draw(job) : this.empty());
    }
    if (job && !ended(job)) this.update(job);
  }

  empty() {
    return [h("div", { class: "easel" },
      h("img", { src: "/playground/static/easel.svg", alt: "", width: 120, height: 96 }),
      h("p", {}, "Your picture appears here."),
      h("p", { class: "hint" }, $("examples").childElementCount ? "Write a prompt, or take one of those above." : "Write a prompt above."))];
  }

  draw(job) {
    const shown = (job.pictures ?? []).filter((picture) => picture.name);
    if (!ended(job)) return this.active(job);
    if (shown.length === 0) return this.withoutPicture(job);
    return this.finished(job, shown);
  }

  // --- waiting and running ---

  active(job) {
    this.live = {
      frame: h("div", { class: "frame forming" }),
      preview: h("img", { class: "preview", alt: "", hidden: true }),
      line: h("p", { class: "line" }),
      bar: h("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, h("i")),
      by: h("p", { class: "hint" }),
    };
    this.live.frame.append(this.live.preview);
    const stop = h("button", { type: "button", class: "quiet", onclick: (event) => this.press(event, "cancel") }, "Cancel");
    return [
      h("div", { class: "easel-frame" }, this.live.frame,
        h("div", { class: "going" }, this.live.bar, h("div", {}, this.live.line, this.live.by), stop)),
      h("div", { class: "caption" }, h("p", { class: "prompt-line" }, job.prompt)),
    ];
  }

  update(job) {
    const { frame, preview, line, bar, by } = this.live;
    const running = job.state === "running";
    this.ratio(frame, job);
    line.textContent = job.line || "Accepted";
    frame.classList.toggle("running", running);
    if (job.preview && preview.src !== job.preview) {
      preview.src = job.preview;
      preview.hidden = false;
    }
    const percent = running ? Math.round((job.progress?.fraction ?? 0) * 100) : 0;
    bar.classList.toggle("idle", !running);
    bar.firstElementChild.style.setProperty("--done", `${percent}%`);
    bar.setAttribute("aria-valuenow", percent);
    bar.setAttribute("aria-valuetext", line.textContent);
    by.textContent = untilWhen(job.by, running);
    announce(running ? `Making it: ${Math.floor(percent / 25) * 25} percent` : line.textContent);
  }

  ratio(element, { width, height }) {
    if (width && height) element.style.setProperty("--ratio", width / height);
  }

  // --- ended ---

  withoutPicture(job) {
    return [h("div", { class: `easel outcome ${job.state}` },
      h("p", { class: "prompt-line" }, job.prompt),
      h("p", { class: "line", role: job.state === "failed" ? "alert" : null }, job.line || job.message || "Cancelled."),
      this.notes(job),
      h("div", { class: "actions" },
        job.remix && this.button("Remix", "remix"),
        this.button("Again", "again"),
        this.remover()))];
  }

  finished(job, shown) {
    const picture = shown[Math.min(this.chosen, shown.length - 1)];
    const frame = h("a", { class: "frame", href: pictureAt(picture.name), target: "_blank", rel: "noopener", title: "Open in full size" },
      h("img", { src: pictureAt(picture.name), alt: picture.alt || job.prompt, width: picture.width, height: picture.height }));
    this.ratio(frame, picture);
    return [
      h("div", { class: "easel-frame" }, frame, shown.length > 1 && this.thumbs(shown)),
      h("div", { class: "caption" },
        h("p", { class: "prompt-line" }, picture.recipe.prompt),
        h("p", { class: "line made" }, job.line),
        this.notes(job),
        h("div", { class: "actions" },
          h("a", { class: "button strong", href: `${pictureAt(picture.name)}?download`, download: true }, "Download"),
          picture.remix && this.button("Remix", "remix", picture),
          this.button("Again", "again", picture),
          this.actions.canStart() && this.button("Start from it", "start", picture),
          this.remover())),
      this.recipe(picture.recipe, picture.remix?.command),
    ];
  }

  thumbs(shown) {
    return h("div", { class: "thumbs", role: "group", "aria-label": "Pictures" }, shown.map((picture, index) =>
      h("button", { type: "button", class: "thumb", "aria-pressed": String(index === this.chosen), "aria-label": `Picture ${index + 1} of ${shown.length}`,
        onclick: () => this.choose(index) },
        h("img", { src: thumbnailAt(picture.name), alt: "", loading: "lazy" }))));
  }

  choose(index) {
    this.chosen = index;
    this.show(this.job);
    this.root.querySelectorAll(".thumb")[index]?.focus();
  }

  notes(job) {
    return job.notes?.length ? h("ul", { class: "notes" }, job.notes.map((note) => h("li", {}, note))) : null;
  }

  recipe(recipe, command) {
    const rows = RECIPE.map(([label, value]) => [label, value(recipe)]).filter(([, value]) => value !== null && value !== undefined && value !== "");
    const text = () => rows.map(([label, value]) => `${label}: ${value}`).join("\n");
    return h("details", { class: "recipe", open: this.recipeOpen, ontoggle: (event) => (this.recipeOpen = event.target.open) },
      h("summary", {}, "Recipe"),
      h("dl", {}, rows.map(([label, value]) => h("div", { class: label === "Prompt" || label === "Negative" ? "wide" : "" }, h("dt", {}, label), h("dd", {}, String(value))))),
      h("p", { class: "recipe-foot" }, h("span", { class: "hint" }, "It also travels inside the picture file."), copyButton("Copy text", text), command && copyButton("Copy command", () => command)));
  }

  // --- buttons ---

  button(label, action, picture) {
    return h("button", { type: "button", class: "quiet", onclick: (event) => this.press(event, action, picture) }, label);
  }

  /** Deleting asks once more on the same button. */
  remover() {
    const button = h("button", { type: "button", class: "quiet danger" }, "Delete");
    button.addEventListener("click", (event) => {
      if (button.dataset.sure) return this.press(event, "remove");
      button.dataset.sure = "yes";
      button.textContent = "Really delete?";
      setTimeout(() => { delete button.dataset.sure; button.textContent = "Delete"; }, 4000);
    });
    return button;
  }

  async press(event, action, picture) {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      await this.actions[action](this.job, picture);
    } finally {
      button.disabled = false;
    }
  }
}

/** When it should be ready, given in Unix seconds; nothing where that is unknown or past. */
function untilWhen(by, running) {
  const left = by ? by - Date.now() / 1000 : 0;
  if (left <= 0) return "";
  if (left < 60) return running ? "ready within a minute" : ""; // the line itself says it while waiting
  return `ready by ${new Date(by * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`;
}
