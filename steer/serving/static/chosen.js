/* The texts that are chosen, on the map or in the list, and what is done with them. */

import { shown } from "./mask.js";
import { beside, place } from "./places.js";
import { button, byId, changed, element, onChange, state, textOf } from "./state.js";

const PANEL = 24; // texts that a panel holds at most: each is read

export function choose(ids, more) {
  if (!more) state.chosen.clear();
  for (const id of ids) state.chosen.add(id);
  changed("chosen");
}

/* Sends texts to away or towards; of many, some that lie evenly among them. */
export function send(where, ids) {
  const there = new Set(state[where].map((each) => each.id));
  const fresh = ids.filter((id) => !there.has(id));
  const room = Math.max(0, PANEL - there.size);
  const step = Math.max(1, fresh.length / Math.max(1, room));
  const sent = Array.from({ length: Math.min(room, fresh.length) }, (_, i) => fresh[Math.floor(i * step)]);
  state[where].push(...sent.map((id) => ({ id, text: textOf(id) })));
  // A strength of 0 would read no text at all.
  const dial = byId(where === "away" ? "dial-eta" : "dial-rho");
  if (state[where].length && Number(dial.value) === 0) dial.value = "0.2";
  const all = sent.length === fresh.length;
  const some = all ? "" : `, of ${fresh.length}: it holds ${PANEL} at most`;
  byId("sent").textContent = `${sent.length} sent to “${where}”${some}`;
  changed("moved");
}

function showMoved() {
  const parts = [];
  for (const where of ["away", "towards"]) {
    if (!state[where].length) continue;
    const head = element("h2", "", `${where === "away" ? "Away from" : "Towards"} ${state[where].length}`);
    const clear = (keep) => () => {
      state[where] = state[where].filter(keep);
      changed("moved");
    };
    head.append(button("Clear", undefined, clear(() => false)));
    const items = element("ul");
    for (const each of state[where]) {
      const words = shown(each.text);
      const item = element("li", "", words.slice(0, 140));
      const drop = button("×", undefined, clear((other) => other !== each));
      drop.setAttribute("aria-label", `Leave out: ${words.slice(0, 60)}`);
      item.prepend(drop);
      items.append(item);
    }
    parts.push(head, items);
  }
  byId("moved").replaceChildren(...parts);
}

function showChosen() {
  const count = state.chosen.size;
  byId("chosen-count").textContent = count ? `${count} chosen` : "None chosen";
  for (const id of ["send-away", "send-towards", "choose-none", "closer"]) byId(id).disabled = !count;
}

async function showFocus() {
  const id = state.focus;
  const title = state.written.has(id) ? "Written text" : "Real text";
  const show = () => state.focus === id && beside(byId("beside"), id, { title, text: textOf(id) });
  if (!id) return byId("beside").replaceChildren();
  show();
  if (byId("texts").hidden || byId("map").closest("figure").hidden) return;
  await place([id]).catch(() => {});
  show();
}

export function startChosen() {
  byId("send-away").addEventListener("click", () => send("away", [...state.chosen]));
  byId("send-towards").addEventListener("click", () => send("towards", [...state.chosen]));
  byId("choose-none").addEventListener("click", () => choose([]));
  onChange("chosen", showChosen);
  onChange("focus", showFocus);
  onChange("places", showFocus);
  onChange("mask", showFocus);
  onChange("mask", showMoved);
  onChange("moved", () => {
    showMoved();
    changed("settings");
  });
  showChosen();
}
