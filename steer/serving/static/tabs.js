/* The tabs of the page, by mouse, keyboard and address. */

import { byId, changed } from "./state.js";

const tabs = () => [...document.querySelectorAll("[role=tab]")];

export function open(name) {
  for (const tab of tabs()) {
    const mine = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", String(mine));
    tab.tabIndex = mine ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !mine;
  }
  history.replaceState(null, "", `#${name}`);
  changed("tab");
}

export function startTabs() {
  for (const [place, tab] of tabs().entries()) {
    tab.type = "button";
    tab.addEventListener("click", () => open(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs().at((place + step) % tabs().length);
      open(next.getAttribute("aria-controls"));
      next.focus();
    });
  }
  const named = location.hash.slice(1);
  open(tabs().some((tab) => tab.getAttribute("aria-controls") === named) ? named : "write");
}
