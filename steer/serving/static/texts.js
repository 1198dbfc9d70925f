/* Texts: the real ones, searched, and sent to away or towards. */

import { get } from "./api.js";
import { button, byId, changed, element, onChange, problem, state } from "./state.js";

const MOST = 100; // texts that are listed at a time
let texts = [];

export async function loadTexts() {
  try {
    const found = await get(`/steer/texts?model=${encodeURIComponent(byId("model").value)}`);
    texts = found.texts;
    list();
  } catch (error) {
    problem(error);
  }
}

function toggle(where, text) {
  const place = state[where].findIndex((each) => each.id === text.id);
  if (place >= 0) state[where].splice(place, 1);
  else state[where].push(text);
  // A strength of 0 would read no text at all.
  const dial = byId(where === "away" ? "dial-eta" : "dial-rho");
  if (state[where].length && Number(dial.value) === 0) dial.value = "0.2";
  changed("moved");
}

function list() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = texts.filter((each) => {
    const text = each.text.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  byId("found").textContent = `${found.length} of ${texts.length}`;
  byId("real").replaceChildren(
    ...found.slice(0, MOST).map((text) => {
      const [made, row] = [element("li"), element("div", "row")];
      for (const [where, name] of [["away", "Away"], ["towards", "Towards"]]) {
        const there = state[where].some((each) => each.id === text.id);
        row.append(button(name, there, () => toggle(where, text)));
      }
      const read = element("p", "", text.text);
      if (text.label) row.append(element("span", "tag", text.label));
      made.append(read, row);
      return made;
    }),
  );
}

function showMoved() {
  const parts = [];
  for (const where of ["away", "towards"]) {
    if (!state[where].length) continue;
    const head = element("h3", "", `${where === "away" ? "Away from" : "Towards"} ${state[where].length}`);
    head.append(
      button("Clear", undefined, () => {
        state[where].length = 0;
        changed("moved");
      }),
    );
    const items = element("ul");
    items.append(...state[where].slice(0, 6).map((each) => element("li", "", each.text.slice(0, 90))));
    parts.push(head, items);
  }
  byId("moved").replaceChildren(...parts);
}

export function startTexts() {
  byId("search").addEventListener("input", list);
  onChange("moved", () => {
    showMoved();
    list();
    changed("settings");
  });
}
