/* What the settings are now, what was written, and which texts are chosen. */

import { element } from "./shared.js";

export { element };

export const DIALS = [
  ["gamma", "0", "2", "0.05", "coherence: towards what fitting taught"],
  ["eta", "0", "2", "0.05", "variety: away from a panel of texts"],
  ["rho", "0", "0.95", "0.05", "towards chosen texts"],
  ["alpha", "0", "0.5", "0.001", "sense: cuts what the expert finds unlikely"],
  ["temperature", "0", "2", "0.05", "0 is always the likeliest"],
];

/* Texts by id: real ones, and those that were written. `chosen` and `focus` are ids; `places` is
   where texts lie on the map, and the real text nearest to each. */
export const state = {
  models: [],
  away: [],
  towards: [],
  real: new Map(),
  written: new Map(),
  verdicts: new Map(),
  chosen: new Set(),
  focus: null,
  places: new Map(),
};

export const byId = (id) => document.getElementById(id);

export function button(text, pressed, action) {
  const made = element("button", "small", text);
  made.type = "button";
  if (pressed !== undefined) made.setAttribute("aria-pressed", String(pressed));
  made.addEventListener("click", action);
  return made;
}

export function model() {
  return state.models.find((each) => each.id === byId("model").value);
}

export function dials() {
  return Object.fromEntries(DIALS.map(([name]) => [name, Number(byId(`dial-${name}`).value)]));
}

/* Ids of the texts kept by hand that this expert wrote for this label. */
function keptLike(asked) {
  const kept = [...state.verdicts].filter(([, verdict]) => verdict === "keep").map(([id]) => id);
  const like = (own) => own.model === asked.model && own.label === asked.label;
  return kept.filter((id) => like(state.written.get(id).asked));
}

export const textOf = (id) => (state.real.get(id) ?? state.written.get(id))?.text ?? "";

/* What was said last before a real text: a written one answers it too. */
export const questionOf = (id) => state.real.get(id)?.turns?.at(-1)?.[1] ?? `the chat of ${id}`;

/* One text is looked at in every part of the page. */
export function focusOn(id) {
  if (state.focus === id) return;
  state.focus = id;
  changed("focus");
}

/* The body of a request with the settings as they are. */
export function body(plain) {
  const asked = {
    model: byId("model").value,
    prompt: "",
    max_tokens: Number(byId("most").value),
    n: Number(byId("count").value),
    seed: Number(byId("seed").value),
  };
  if (model().steer.labels.length) asked.label = byId("label").value;
  if (plain) return { ...asked, method: "plain" };
  const set = dials();
  asked.method = byId("method").value;
  Object.assign(asked, set);
  if (state.away.length && set.eta > 0) asked.away = state.away.map((each) => each.id);
  if (state.towards.length && set.rho > 0) asked.towards = state.towards.map((each) => each.id);
  const kept = byId("join").checked ? keptLike(asked) : [];
  if (kept.length && !(asked.away && asked.towards)) asked.kept = kept;
  return asked;
}

export function problem(error) {
  if (error && error.name === "AbortError") return;
  const shown = byId("problem");
  shown.hidden = !error;
  shown.textContent = error ? error.message : "";
}

/* Lets the parts of the page know that something they show has changed. */
export function changed(what) {
  document.dispatchEvent(new CustomEvent(`steer-${what}`));
}

export function onChange(what, action) {
  document.addEventListener(`steer-${what}`, action);
}
