/* Texts: the real ones and those that were written, searched and chosen in a list. */

import { get } from "./api.js";
import { choose } from "./chosen.js";
import { highlight, openMap } from "./map.js";
import { shown } from "./mask.js";
import { byId, changed, element, focusOn, onChange, problem, state } from "./state.js";

const MOST = 100; // texts that are listed at a time
let matching = [];

export async function loadTexts() {
  try {
    const found = await get(`/steer/texts?model=${encodeURIComponent(byId("model").value)}`);
    state.real = new Map(found.texts.map((text) => [text.id, text]));
    list();
  } catch (error) {
    problem(error);
  }
}

function listed() {
  const written = [...state.written].filter(([, text]) => text.ended);
  const wrote = written.map(([id, text]) => ({ id, text: text.text, label: "written" }));
  const kind = byId("kind").value;
  if (kind === "written") return wrote;
  const all = [...wrote, ...state.real.values()];
  return kind === "chosen" ? all.filter((each) => state.chosen.has(each.id)) : [...state.real.values()];
}

function item(text) {
  const [made, label, box] = [element("li"), element("label"), element("input")];
  box.type = "checkbox";
  box.checked = state.chosen.has(text.id);
  box.addEventListener("change", () => {
    if (box.checked) state.chosen.add(text.id);
    else state.chosen.delete(text.id);
    focusOn(text.id);
    changed("chosen");
  });
  label.append(box, element("span", "", shown(text.text)));
  made.append(label);
  made.dataset.id = text.id;
  const sent = ["away", "towards"].filter((where) => state[where].some((each) => each.id === text.id));
  for (const tag of [...sent, text.label]) if (tag) made.append(element("span", `tag ${tag}`, tag));
  return made;
}

/* Keeps the items that are there: a box that is ticked keeps the focus of the keyboard. */
function mark() {
  for (const made of byId("real").children) {
    made.querySelector("input").checked = state.chosen.has(made.dataset.id);
    made.classList.toggle("focus", made.dataset.id === state.focus);
  }
}

function list() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const all = listed();
  matching = all.filter((each) => words.every((word) => each.text.toLowerCase().includes(word)));
  byId("found").textContent = `${matching.length} of ${all.length}`;
  byId("choose-found").disabled = !matching.length;
  byId("real").replaceChildren(...matching.slice(0, MOST).map(item));
  byId("more").hidden = matching.length <= MOST;
  highlight(words.length ? new Set(matching.map((each) => each.id)) : null);
  mark();
}

export function startTexts() {
  byId("search").addEventListener("input", list);
  byId("kind").addEventListener("change", list);
  byId("choose-found").addEventListener("click", () => choose(matching.map((each) => each.id)));
  onChange("chosen", () => (byId("kind").value === "chosen" ? list() : mark()));
  onChange("focus", mark);
  onChange("moved", list);
  onChange("mask", list);
  onChange("written", () => byId("kind").value !== "real" && list());
  onChange("tab", () => byId("texts").hidden || openMap());
}
