/* See: a text as its tokens, and the candidates for each. */

import { stream } from "./api.js";
import { shownAfter } from "./mask.js";
import { reweigh, Tokens } from "./shared.js";
import { byId, changed, dials, focusOn, model, onChange, problem, state } from "./state.js";
import { open } from "./tabs.js";

const past = [];
let view = null;
let running = null;

export function see(id) {
  past.length = 0;
  focusOn(id);
  show(state.written.get(id), 0);
  open("see");
  byId("strip").focus();
}

function show(text, place) {
  view.show(text, place);
  byId("back").disabled = !past.length;
  tune();
}

/* The sliders move what is shown, without the model, where the text's streams are known. */
function tune() {
  const text = view.text;
  if (!text || !state.models.length) return;
  const { asked, weights, streams } = text;
  const named = model().steer.methods.find((each) => each.name === asked.method);
  byId("live").disabled = !weights || asked.method === "plain" || named?.adaptive || !named;
  const now = dials();
  const was = { gamma: asked.gamma, eta: asked.eta, rho: asked.rho, alpha: asked.alpha };
  const moves = byId("live").checked && !byId("live").disabled;
  const published = named?.weights === "published";
  const moved = moves && { weights: reweigh({ streams, weights, dials: was, published }, now), alpha: now.alpha };
  view.recompute(moved || null);
  const missing = ["gamma", "eta", "rho"].filter((name) => now[name] > 0 && !was[name]);
  byId("live-about").textContent = !moves
    ? ""
    : missing.length
      ? `This text was written with ${missing.join(" and ")} at 0: that stream is not known.`
      : "Recomputed here among the candidates; the text itself stays as it was written.";
}

/* Goes on from a candidate for the token where we are, with the same seed and settings. */
async function force(candidate) {
  running?.abort();
  const mine = (running = new AbortController());
  const { text, at: place } = view;
  const begun = [...text.tokens.slice(0, place).map((token) => token.id), candidate.id];
  past.push({ text, place });
  const next = { ...text, tokens: [], text: "", begun: begun.length, ended: null };
  problem(null);
  try {
    // The texts of a request differ by their number: those before ours are written too.
    const n = text.place + 1;
    const asked = { ...text.asked, n, prompt: begun, echo: true, trace: true };
    for await (const event of stream(asked, mine.signal)) {
      for (const choice of event.choices) {
        if (choice.index !== text.place || running !== mine) continue;
        next.tokens.push(...(choice.steer?.tokens ?? []));
        next.text += choice.text;
        if (choice.finish_reason) {
          next.ended = choice.finish_reason;
          state.written.set(`${event.id}/${choice.index}`, next);
          changed("written");
        }
        if (next.tokens.length > place) show(next, place);
      }
    }
  } catch (error) {
    problem(error);
  }
}

export function startSee() {
  const [strip, against, at] = ["strip", "against", "at"].map(byId);
  view = new Tokens({ strip, against, at, heads: byId("streams"), rows: byId("candidates") }, force, shownAfter);
  byId("live").addEventListener("change", tune);
  onChange("settings", tune);
  onChange("mask", tune);
  byId("back").addEventListener("click", () => {
    running?.abort();
    const before = past.pop();
    if (before) show(before.text, before.place);
  });
}
