/* What the settings are now, and what was written. */

export const DIALS = [
  ["gamma", "0", "2", "0.05", "coherence: towards what fitting taught"],
  ["eta", "0", "2", "0.05", "variety: away from a panel of texts"],
  ["rho", "0", "0.95", "0.05", "towards chosen texts"],
  ["alpha", "0", "0.5", "0.001", "sense: cuts what the expert finds unlikely"],
  ["temperature", "0", "2", "0.05", "0 is always the likeliest"],
];

export const state = { models: [], away: [], towards: [], written: new Map(), verdicts: new Map() };

export const byId = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

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
