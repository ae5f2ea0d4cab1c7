// History: what this browser asked for, newest first, as small pictures.

import { $, fill, h } from "/playground/static/dom.js";
import { ended } from "/playground/static/jobs.js";
import { thumbnailAt } from "/playground/static/server.js";

const WORD = { failed: "Not made", cancelled: "Cancelled", withheld: "Withheld", accepted: "Accepted", queued: "Waiting", running: "Making it" };

export class Reel {
  constructor(choose) {
    this.choose = choose;
    this.root = $("reel");
    this.cards = new Map();
  }

  /** Bring the list up to date. selected: the id on the stage. */
  show(jobs, selected) {
    const wanted = jobs.map((job) => this.card(job, job.id === selected));
    for (const [id, card] of this.cards) {
      if (!jobs.some((job) => job.id === id)) {
        card.remove();
        this.cards.delete(id);
      }
    }
    wanted.forEach((card, index) => {
      if (this.root.children[index] !== card) this.root.insertBefore(card, this.root.children[index] ?? null);
    });
    $("history-title").parentElement.classList.toggle("none", jobs.length === 0);
  }

  card(job, selected) {
    const card = this.cards.get(job.id) ?? this.fresh(job);
    const shown = (job.pictures ?? []).filter((picture) => picture.name);
    const form = `${job.state} ${shown.length}`;
    if (card.dataset.form !== form) {
      card.dataset.form = form;
      fill(card.face, shown.length
        ? h("img", { src: thumbnailAt(shown[0].name), alt: "", loading: "lazy", decoding: "async" })
        : h("span", { class: `word ${job.state}` }, ended(job) ? null : h("span", { class: "dot" }), WORD[job.state] ?? ""),
        shown.length > 1 ? h("span", { class: "count" }, `${shown.length}`) : null);
      card.press.setAttribute("aria-label", `${job.prompt} (${WORD[job.state] ?? "ready"})`);
    }
    card.face.style.setProperty("--done", `${ended(job) ? 0 : Math.round((job.progress?.fraction ?? 0) * 100)}%`);
    card.press.setAttribute("aria-current", String(selected));
    return card;
  }

  fresh(job) {
    const face = h("span", { class: "face" });
    const press = h("button", { type: "button", class: "card-press", title: job.prompt, onclick: () => this.choose(job.id) },
      face, h("span", { class: "words" }, job.prompt));
    const card = Object.assign(h("li", { "data-id": job.id }, press), { face, press });
    this.cards.set(job.id, card);
    return card;
  }
}
