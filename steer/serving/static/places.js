/* Where texts lie on the map, and the real text nearest to each, as the server finds them. */

import { get, post } from "./api.js";
import { shown } from "./mask.js";
import { markedText } from "./shared.js";
import { changed, element, state } from "./state.js";

const WAIT = 700; // ms between looks how far the server is
const SOME = 32; // texts that are asked for at once
const asked = new Set();
let loading = null;

/* Gives the map once it is made; `tell` hears how far it is. One failure is for good. */
export function loadMap(tell) {
  loading ??= load(tell);
  return loading;
}

async function load(tell) {
  for (;;) {
    const found = await get("/steer/map");
    if (found.points) {
      for (const [row, point] of found.points.entries()) {
        state.places.set(`real:${row}`, { ...state.places.get(`real:${row}`), point });
      }
      return found;
    }
    tell(`Placing the real texts: ${found.done} of ${found.of}. This happens once.`);
    await new Promise((done) => setTimeout(done, WAIT));
  }
}

/* Finds for each of the texts its place and its nearest real text, once. */
export async function place(ids) {
  const unknown = ids.filter((id) => !asked.has(id));
  unknown.forEach((id) => asked.add(id));
  for (let start = 0; start < unknown.length; start += SOME) {
    const some = unknown.slice(start, start + SOME);
    const { texts } = await post("/steer/nearest", { texts: some });
    for (const [i, each] of texts.entries()) state.places.set(some[i], each);
    changed("places");
  }
}

/* Shows a text and the real text nearest to it, with the words that they share marked. */
export function beside(where, id, named) {
  const found = state.places.get(id);
  const pair = [];
  const part = (title, text, marks) => {
    const made = element("div", "card pair");
    const read = element("p");
    read.append(marks ? markedText(shown(text), marks) : shown(text));
    made.append(element("h2", "side", title), read);
    pair.push(made);
  };
  if (named) part(named.title, named.text, found?.marks?.[0]);
  if (found?.nearest) part(`Nearest real text, cosine ${found.cosine.toFixed(2)}`, found.text, found.marks[1]);
  where.replaceChildren(...pair);
}
