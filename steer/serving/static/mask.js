/* Texts that may insult are masked, as the report masks them, until somebody unmasks them by hand. */

import { byId, changed, model, onChange, state } from "./state.js";

const WORD = /[\p{L}\p{M}\p{N}\p{Pc}]+/gu;
const DOT = "·";

/* Each word as its first letter and a dot for every other; as long as before. A word of one letter
   is a dot: else a word spelt with spaces could be read. */
export function mask(text) {
  return text.replace(WORD, (word) => {
    const first = String.fromCodePoint(word.codePointAt(0));
    const rest = DOT.repeat(word.length - first.length);
    return rest ? first + rest : DOT.repeat(word.length);
  });
}

const masks = () => Boolean(state.models.length && model().steer.masked);

/* A text as the page shows it. */
export function shown(text) {
  return masks() && byId("unmask").getAttribute("aria-pressed") === "false" ? mask(text) : text;
}

/* A token as the page shows it after the text `before`, whose last word it may go on with. */
export function shownAfter(before, token) {
  const last = before.slice(-2);
  return shown(last + token).slice(last.length);
}

function offer() {
  byId("masked").hidden = !masks();
}

export function startMask() {
  const unmask = byId("unmask");
  unmask.addEventListener("click", () => {
    unmask.setAttribute("aria-pressed", String(unmask.getAttribute("aria-pressed") === "false"));
    changed("mask");
  });
  onChange("model", offer);
}
