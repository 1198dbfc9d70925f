/* Take away: the settings as a command, as Python, and as a request. */

import { shown } from "./mask.js";
import { body, button, byId, dials, onChange, state } from "./state.js";

const quoted = (text) => (/^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const python = (value) => JSON.stringify(value);

function command(asked) {
  const set = dials();
  const label = asked.label === undefined ? "--n 100" : `--label ${quoted(`${asked.label}=100`)}`;
  const strengths = Object.entries(set).map(([name, value]) => `--${name} ${value}`);
  const method = asked.method === "steer" ? [] : [`--method ${asked.method}`];
  const all = [label, ...method, ...strengths, `--max-new-tokens ${asked.max_tokens}`, `--seed ${asked.seed}`];
  const lines = [`steer generate ${quoted(asked.model)} --real DATA --out run`, ...all];
  return lines.join(" \\\n    ");
}

function script(asked) {
  const { model, prompt, max_tokens, n, seed, temperature, ...ours } = asked;
  const lines = [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${python(`${location.origin}/v1`)}, api_key="none")`,
    "answer = client.completions.create(",
    ...Object.entries({ model, prompt, max_tokens, n, seed, temperature }).map(
      ([name, value]) => `    ${name}=${python(value)},`,
    ),
    `    extra_body=${JSON.stringify(ours, null, 4).replaceAll("\n", "\n    ")},`,
    ")",
    "print([choice.text for choice in answer.choices])",
  ];
  return lines.join("\n");
}

/* The three forms by the ids of their places. Written texts are there by their words, as `spell` has
   them: another server does not know their ids. */
function forms(spell) {
  const asked = body(false);
  const words = (id) => (state.written.has(id) ? spell(state.written.get(id).text) : id);
  for (const name of ["away", "towards", "kept"]) if (asked[name]) asked[name] = asked[name].map(words);
  const request = `POST ${location.origin}/v1/completions\n\n${JSON.stringify(asked, null, 2)}`;
  return { "as-command": command(asked), "as-python": script(asked), "as-request": request };
}

const whole = (text) => text;

function show() {
  if (!state.models.length) return;
  const [seen, copied] = [forms(shown), forms(whole)];
  for (const [place, text] of Object.entries(seen)) byId(place).textContent = text;
  byId("copy-note").hidden = seen["as-request"] === copied["as-request"];
  const asked = body(false);
  byId("as-note").hidden = !(asked.away || asked.towards);
}

export function startTake() {
  for (const each of document.querySelectorAll(".copied")) {
    const copy = button("Copy", undefined, async () => {
      await navigator.clipboard.writeText(forms(whole)[each.querySelector("pre").id]);
      copy.textContent = "Copied";
    });
    each.append(copy);
  }
  onChange("settings", show);
  onChange("mask", show);
  show();
}
