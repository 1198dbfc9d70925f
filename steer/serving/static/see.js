/* See: a text as its tokens, and the candidates for each. */

import { stream } from "./api.js";
import { byId, changed, element, problem, state } from "./state.js";
import { open } from "./tabs.js";

const FULL = 2; // nats of difference that have the full colour
const past = [];
let shown = null; // the text: tokens, streams, asked, place, begun
let at = 0; // the token that is shown
let pinned = 0; // the one that is shown once the mouse has left
let running = null;

export function see(id) {
  past.length = 0;
  show(state.written.get(id));
  open("see");
  byId("strip").focus();
}

function show(text, place = 0) {
  shown = text;
  const names = shown.streams.slice(1);
  const choices = [["final", "what guidance did"], ...names.map((name, i) => [i + 1, `${name} stream`])];
  byId("against").replaceChildren(...choices.map(([value, words]) => new Option(words, value)));
  byId("streams").replaceChildren(
    ...["token", ...shown.streams, "final", ""].map((name) => {
      const head = element("th", "", name);
      head.scope = "col";
      return head;
    }),
  );
  draw();
  pin(place);
}

/* How much likelier the token is than under the expert, nats; null where there is no saying. */
function difference(token, against) {
  const chosen = token.candidates.find((each) => each.id === token.id);
  if (!chosen || shown.streams[0] !== "expert") return null;
  const other = against === "final" ? chosen.final : chosen.streams[Number(against)];
  return other === null || chosen.streams[0] === null ? null : other - chosen.streams[0];
}

function draw() {
  const against = byId("against").value;
  byId("back").disabled = !past.length;
  byId("strip").replaceChildren(
    ...shown.tokens.map((token, place) => {
      const made = element("span", "", token.end ? "end" : token.text);
      const moved = difference(token, against);
      if (moved) made.classList.add(moved > 0 ? "up" : "down");
      made.style.setProperty("--d", String(Math.min(1, Math.abs(moved ?? 0) / FULL)));
      made.classList.toggle("end", token.end);
      made.classList.toggle("begun", place < shown.begun);
      made.id = `token-${place}`;
      made.setAttribute("role", "option");
      made.addEventListener("mouseenter", () => select(place));
      made.addEventListener("click", () => pin(place));
      return made;
    }),
  );
}

function pin(place) {
  select(place);
  pinned = at;
}

function select(place) {
  if (!shown?.tokens.length) return;
  at = Math.max(0, Math.min(place, shown.tokens.length - 1));
  for (const [number, each] of [...byId("strip").children].entries()) {
    each.setAttribute("aria-selected", String(number === at));
  }
  byId("strip").setAttribute("aria-activedescendant", `token-${at}`);
  const token = shown.tokens[at];
  const moved = difference(token, "final");
  const said = moved === null ? "" : `, ${Math.exp(moved).toFixed(2)} times as likely as under the expert`;
  byId("at").textContent = `token ${at + 1} of ${shown.tokens.length}${said}`;
  byId("candidates").replaceChildren(...token.candidates.map((each) => row(each, token)));
}

function percent(logProb) {
  if (logProb === null) return "–";
  const value = 100 * Math.exp(logProb);
  return value >= 0.05 ? value.toFixed(1) : value.toExponential(0);
}

function row(candidate, token) {
  const made = element("tr", candidate.id === token.id ? "chosen" : "");
  made.classList.toggle("cut", !candidate.kept);
  const choose = element("button", "", candidate.text === "" ? "end" : candidate.text.replace(/^ /, "␣"));
  choose.type = "button";
  choose.title = candidate.kept ? "go on with this token" : "cut; go on with it all the same";
  choose.addEventListener("click", () => force(candidate.id));
  const first = element("td");
  first.append(choose);
  const cells = candidate.streams.map((value) => element("td", "", percent(value)));
  const moved = candidate.kept ? candidate.final - candidate.streams[0] : 0;
  const final = element("td", moved > 0.02 ? "more" : moved < -0.02 ? "less" : "");
  final.textContent = candidate.kept ? `${percent(candidate.final)} %` : "cut";
  const bar = element("i", "bar");
  bar.style.setProperty("--p", String(candidate.kept ? Math.exp(candidate.final) : 0));
  const last = element("td");
  last.append(bar);
  made.append(first, ...cells, final, last);
  return made;
}

/* Goes on from a candidate for the token where we are, with the same seed and settings. */
async function force(id) {
  running?.abort();
  const mine = (running = new AbortController());
  const begun = [...shown.tokens.slice(0, at).map((token) => token.id), id];
  past.push({ shown, at });
  const place = at;
  const next = { ...shown, tokens: [], text: "", begun: begun.length };
  problem(null);
  try {
    // The texts of a request differ by their number: those before ours are written too.
    const n = shown.place + 1;
    const asked = { ...shown.asked, n, prompt: begun, echo: true, trace: true };
    for await (const event of stream(asked, mine.signal)) {
      for (const choice of event.choices) {
        if (choice.index !== shown.place || running !== mine) continue;
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

function move(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -1e6, End: 1e6 };
  if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  pin(pinned + steps[event.key]);
}

export function startSee() {
  byId("strip").addEventListener("keydown", move);
  byId("against").addEventListener("change", () => {
    draw();
    select(at);
  });
  byId("strip").addEventListener("mouseleave", () => select(pinned));
  byId("back").addEventListener("click", () => {
    running?.abort();
    const before = past.pop();
    if (before) show(before.shown, before.at);
  });
}
