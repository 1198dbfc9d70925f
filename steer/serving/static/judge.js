/* Judge: one text after the other, kept or rejected by hand. */

import { post } from "./api.js";
import { shown } from "./mask.js";
import { beside, place as findPlace } from "./places.js";
import { markedText } from "./shared.js";
import { byId, changed, element, focusOn, onChange, questionOf, state } from "./state.js";

let at = 0;

const ids = () => [...state.written].filter(([, text]) => text.ended).map(([id]) => id);

function show() {
  const all = ids();
  at = Math.max(0, Math.min(at, all.length - 1));
  const text = all.length ? state.written.get(all[at]) : null;
  const verdict = text && state.verdicts.get(all[at]);
  const marks = state.places.get(all[at])?.marks;
  byId("judged").replaceChildren(
    ...(text?.answers ? [element("p", "asks", shown(questionOf(text.answers)))] : []),
    marks ? markedText(shown(text.text), marks[0]) : text ? shown(text.text) : "Write some texts first.",
  );
  beside(byId("judged-beside"), all[at]);
  if (text && !byId("judge").hidden) {
    focusOn(all[at]);
    findPlace([all[at]]).catch(() => {}); // where nothing can be embedded there is no nearest text
  }
  byId("judged").className = `card reading verdict-${verdict ?? "none"}`;
  const counts = ["keep", "reject"].map((name) => [...state.verdicts.values()].filter((v) => v === name).length);
  const place = all.length ? `text ${at + 1} of ${all.length}; ` : "";
  byId("tally").textContent = `${place}${counts[0]} kept, ${counts[1]} rejected`;
  for (const name of ["keep", "reject"]) {
    byId(name).disabled = !text;
    byId(name).setAttribute("aria-pressed", String(verdict === name));
  }
}

function judge(verdict) {
  const id = ids()[at];
  if (!id) return;
  state.verdicts.set(id, verdict);
  at += 1;
  changed("verdicts");
}

function press(event) {
  if (byId("judge").hidden || event.target.matches("input, select") || event.ctrlKey || event.metaKey) return;
  const action = { k: () => judge("keep"), r: () => judge("reject") }[event.key.toLowerCase()];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (action) action();
  else if (step && !event.target.matches("[role=tab]")) {
    at += step;
    show();
  }
}

async function save(event) {
  event.preventDefault();
  const said = byId("saved");
  try {
    const asked = { name: byId("name").value, verdicts: Object.fromEntries(state.verdicts) };
    const made = await post("/steer/runs", asked);
    said.textContent = `saved: ${made.records} records in ${made.name}`;
  } catch (error) {
    said.textContent = error.message;
  }
}

function download() {
  const lines = [...state.verdicts].map(([id, verdict]) => {
    const { text, asked } = state.written.get(id);
    const { model, prompt, n, max_tokens, ...settings } = asked;
    return JSON.stringify({ text, verdict, model, ...settings });
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "application/jsonl" }));
  link.download = `${byId("name").value || "judged"}.jsonl`;
  link.click();
  URL.revokeObjectURL(link.href);
}

export function startJudge() {
  byId("keep").addEventListener("click", () => judge("keep"));
  byId("reject").addEventListener("click", () => judge("reject"));
  byId("save").addEventListener("submit", save);
  byId("download").addEventListener("click", download);
  document.addEventListener("keydown", press);
  onChange("verdicts", show);
  for (const what of ["written", "places", "tab", "mask"]) onChange(what, show);
  byId("join").addEventListener("change", () => changed("settings"));
  show();
}
