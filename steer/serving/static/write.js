/* Write: two columns with the same seeds. */

import { post, stream } from "./api.js";
import { send } from "./chosen.js";
import { shown } from "./mask.js";
import { see } from "./see.js";
import { body, button, byId, changed, element, model, onChange, problem, questionOf, state } from "./state.js";

const REST = 300; // ms without a change of the settings before the server is asked
let running = null;
let waiting = null;
let reads = null; // what the streams read, as the server answered last
let asking = null;

function card(list, id, text) {
  const made = element("li");
  const row = element("div", "row");
  made.append(element("p", "text", text), row);
  made.dataset.busy = "";
  list.append(made);
  return made;
}

function verdictButtons(id) {
  const now = state.verdicts.get(id);
  return ["keep", "reject"].map((verdict) =>
    button(verdict === "keep" ? "Keep" : "Reject", now === verdict, () => {
      if (state.verdicts.get(id) === verdict) state.verdicts.delete(id);
      else state.verdicts.set(id, verdict);
      changed("verdicts");
    }),
  );
}

function finish(made, id) {
  const text = state.written.get(id);
  delete made.dataset.busy;
  made.dataset.id = id;
  made.className = `verdict-${state.verdicts.get(id) ?? "none"}`;
  const away = button("Away", undefined, () => send("away", [id]));
  const ended = text.ended === "length" ? "cut off" : `${text.tokens.length} tokens`;
  made
    .querySelector(".row")
    .replaceChildren(
      button("See", undefined, () => see(id)),
      ...verdictButtons(id),
      away,
      element("span", "tag", ended),
    );
}

async function column(list, asked, signal) {
  list.replaceChildren();
  const cards = Array.from({ length: asked.n }, () => card(list, "", ""));
  for await (const event of stream({ ...asked, trace: true }, signal)) {
    for (const choice of event.choices) {
      const id = `${event.id}/${choice.index}`;
      if (!state.written.has(id)) {
        const { streams, weights } = event.steer;
        const answers = event.steer.asked?.[choice.index];
        const about = { asked, place: choice.index, streams, weights, answers };
        state.written.set(id, { ...about, text: "", tokens: [], begun: 0, ended: null });
        if (answers) cards[choice.index].prepend(element("p", "asks", shown(questionOf(answers))));
      }
      const text = state.written.get(id);
      text.text += choice.text;
      text.tokens.push(...(choice.steer?.tokens ?? []));
      cards[choice.index].querySelector(".text").textContent = shown(text.text);
      if (choice.finish_reason) {
        text.ended = choice.finish_reason;
        finish(cards[choice.index], id);
        changed("written");
      }
    }
  }
}

export async function write() {
  running?.abort();
  const mine = (running = new AbortController());
  problem(null);
  byId("stop").disabled = false;
  const [guided, plain] = [body(false), body(true)];
  plain.temperature = guided.temperature;
  try {
    await Promise.all([
      column(byId("guided"), guided, mine.signal),
      column(byId("plain"), plain, mine.signal),
    ]);
    if (byId("next-seed").checked && running === mine) {
      byId("seed").value = String((Number(byId("seed").value) + 1) % 1e9);
      changed("settings");
    }
  } catch (error) {
    mine.abort();
    problem(error);
  } finally {
    if (running === mine) byId("stop").disabled = true;
    for (const each of document.querySelectorAll(".written [data-busy]")) {
      if (running === mine) delete each.dataset.busy;
    }
  }
}

/* What each stream reads before the text: the panels as they are drawn. */
function listReads() {
  if (!reads) return;
  byId("reading").replaceChildren(
    ...reads.map((each) => {
      const [made, items] = [element("div", "stream"), element("ol")];
      const who = each.adapter ? "the expert" : "the base model";
      made.append(element("h2", "side", `${each.name}: ${who}, weight ${each.weight}`));
      items.append(...each.texts.map((text) => element("li", "", shown(text))));
      if (each.texts.length) made.append(items);
      // A prompt of the expert's own is nobody's text; what a chat's answers answer is.
      made.append(element("p", "muted", model().steer.chats ? shown(each.prompt) : each.prompt));
      return made;
    }),
  );
}

/* Asks the server for them; of answers that overtake each other the last question's counts. */
async function askReads() {
  if (!byId("reads").open || !state.models.length) return;
  const mine = (asking = {});
  try {
    const { streams } = await post("/steer/streams", body(false));
    if (asking !== mine) return;
    reads = streams;
    listReads();
  } catch (error) {
    if (asking !== mine) return;
    reads = null;
    byId("reading").replaceChildren(element("p", "muted", error.message));
  }
}

export function startWrite() {
  byId("reads").addEventListener("toggle", askReads);
  onChange("settings", () => {
    clearTimeout(waiting);
    waiting = setTimeout(askReads, REST);
  });
  byId("go").addEventListener("click", write);
  byId("stop").addEventListener("click", () => running?.abort());
  document.addEventListener("steer-verdicts", () => {
    for (const each of document.querySelectorAll(".written [data-id]")) finish(each, each.dataset.id);
    changed("settings"); // kept texts join the pool
  });
  onChange("mask", () => {
    for (const each of document.querySelectorAll(".written [data-id]")) {
      const { text, answers } = state.written.get(each.dataset.id);
      each.querySelector(".text").textContent = shown(text);
      if (answers) each.querySelector(".asks").textContent = shown(questionOf(answers));
    }
    listReads();
  });
  onChange("focus", () => {
    for (const each of document.querySelectorAll(".written [data-id]")) {
      each.classList.toggle("focus", each.dataset.id === state.focus);
    }
  });
}
