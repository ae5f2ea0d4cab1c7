// The two tabs of the model card, and the settings that fold on a narrow screen.

import { $ } from "/playground/static/dom.js";

export const wide = matchMedia("(min-width: 900px)");

const tabs = [$("tab-playground"), $("tab-api")];

/** Show the view of a tab. */
export function openTab(tab) {
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

const summary = $("panel").querySelector("summary");
const fold = () => {
  $("panel").open = wide.matches;
  summary.tabIndex = wide.matches ? -1 : 0;
};
wide.addEventListener("change", fold);
summary.addEventListener("click", (event) => {
  if (wide.matches) event.preventDefault(); // beside the prompt it stays open
});
fold();
