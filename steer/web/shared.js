/* What the server's page and the report have in common: the words that two texts share, and a text
   as its tokens with the candidates for each. A module of its own that needs no other. */

/* What Python splits words at. */
const SPACE = /([\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+)/;
const FULL = 2; // nats of difference that have the full colour

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* `marks` has a digit for each word: 1 is in the other text too, 2 is part of a run there. */
export function markedText(text, marks) {
  const paragraph = element("span");
  /* Words at even places, the white space between them at odd ones. */
  const parts = text.split(SPACE);
  if (!parts[0]) paragraph.append(...parts.splice(0, 2));
  for (let start = 0, end; start < parts.length; start = end) {
    for (end = start + 2; end < parts.length && marks[end / 2] === marks[start / 2]; ) end += 2;
    const kind = { 1: ["span", "both"], 2: ["mark", ""] }[marks[start / 2]] ?? ["span", ""];
    if (start) paragraph.append(parts[start - 1]);
    paragraph.append(element(...kind, parts.slice(start, end - 1).join("")));
  }
  return paragraph;
}

/* Weights of the streams at other strengths (gamma, eta, rho): each is in proportion to its own
   strength, and the expert's makes up the sum (steer/guidance.py). */
export function reweigh({ streams, weights, dials, published }, now) {
  const own = { base: "gamma", contrast: "gamma", negative: "eta", positive: "rho" };
  const moved = weights.map((weight, i) => {
    const dial = own[streams[i]];
    const anchor = streams[i] === "base" && weight > 0; // of dexperts: always 1
    return dial && dials[dial] && !anchor ? (weight * now[dial]) / dials[dial] : weight;
  });
  if (streams[0] !== "expert") return moved;
  const rest = moved.slice(1).reduce((sum, weight) => sum + weight, 0);
  const had = streams.includes("negative") ? now.eta : 0;
  return [1 - (published ? had : 0) - rest, ...moved.slice(1)];
}

/* The candidates at other weights and another alpha, likeliest first. Their probabilities are
   shares among them: what no candidate holds is not known. */
export function rescore(candidates, streams, weights, alpha) {
  const floor = Math.max(...candidates.map((each) => each.streams[0] ?? -Infinity)) + Math.log(alpha);
  const negatives = weights.flatMap((weight, i) => (streams[i] === "negative" && weight ? [i] : []));
  const score = (logs) => {
    if (alpha > 0 && (logs[0] ?? -Infinity) < floor) return -Infinity;
    let sum = 0;
    for (const [i, weight] of weights.entries()) {
      if (!weight || negatives.includes(i)) continue;
      if (logs[i] === null) return -Infinity;
      sum += weight * logs[i];
    }
    if (!negatives.length) return sum;
    /* Several negative streams count as the one that finds the token likeliest. */
    const likeliest = Math.max(...negatives.map((i) => logs[i] ?? -Infinity));
    const total = negatives.reduce((all, i) => all + weights[i], 0);
    return likeliest === -Infinity ? -Infinity : sum + total * likeliest;
  };
  const scores = candidates.map((each) => score(each.streams));
  const best = Math.max(...scores);
  const all = best + Math.log(scores.reduce((sum, each) => sum + Math.exp(each - best), 0));
  const found = candidates.map((each, i) => {
    const kept = scores[i] > -Infinity;
    return { ...each, kept, final: kept ? scores[i] - all : null };
  });
  return found.sort((a, b) => (b.final ?? -1e9) - (a.final ?? -1e9) || b.streams[0] - a.streams[0]);
}

export function percent(logProb) {
  if (logProb === null) return "–";
  const value = 100 * Math.exp(logProb);
  if (value >= 0.05) return value.toFixed(1);
  return value >= 0.0005 ? String(Number(value.toPrecision(1))) : value.toExponential(0);
}

/* A text as its tokens in `parts.strip`, and the candidates for one of them in `parts.heads` and
   `parts.rows`; `parts.against` says what colours it, `parts.at` says where one is. `choose` is
   called with a candidate that is clicked; `spell` says how a token is shown after the text before
   it. */
export class Tokens {
  constructor(parts, choose, spell = (before, token) => token) {
    Object.assign(this, { parts, choose, spell, text: null, at: 0, pinned: 0, settings: null });
    parts.strip.addEventListener("keydown", (event) => this.press(event));
    parts.strip.addEventListener("mouseleave", () => this.select(this.pinned));
    parts.against.addEventListener("change", () => this.draw());
  }

  /* Shows a text: its tokens, and the names of its streams. */
  show(text, place = 0) {
    this.text = text;
    const named = text.streams.slice(1).map((name, i) => [i + 1, `${name} stream`]);
    const choices = [["final", "what guidance did"], ...named];
    this.parts.against.replaceChildren(...choices.map(([value, words]) => new Option(words, value)));
    const heads = ["token", ...text.streams, "final", ""].map((name) => {
      const head = element(name ? "th" : "td", "", name);
      if (name) head.scope = "col";
      return head;
    });
    this.parts.heads.replaceChildren(...heads);
    this.pinned = this.at = Math.max(0, Math.min(place, text.tokens.length - 1));
    this.draw();
  }

  /* Recomputes with other weights and alpha; null shows the text as it was written. */
  recompute(settings) {
    this.settings = settings;
    if (this.text) this.draw();
  }

  candidates(token) {
    if (!this.settings) return token.candidates;
    return rescore(token.candidates, this.text.streams, this.settings.weights, this.settings.alpha);
  }

  /* How much likelier the token is than under the expert, nats; null where there is no saying. */
  difference(token, against) {
    const chosen = this.candidates(token).find((each) => each.id === token.id);
    if (!chosen || this.text.streams[0] !== "expert" || chosen.streams[0] === null) return null;
    const other = against === "final" ? chosen.final : chosen.streams[Number(against)];
    if (other === null) return against === "final" ? -Infinity : null;
    return other - chosen.streams[0];
  }

  draw() {
    const { strip, against } = this.parts;
    let before = "";
    strip.replaceChildren(
      ...this.text.tokens.map((token, place) => {
        const made = element("span", "", token.end ? "end" : this.spell(before, token.text));
        before += token.text;
        const moved = this.difference(token, against.value);
        if (moved) made.classList.add(moved > 0 ? "up" : "down");
        made.style.setProperty("--d", String(Math.min(1, Math.abs(moved ?? 0) / FULL)));
        made.classList.toggle("end", token.end);
        made.classList.toggle("lost", moved === -Infinity);
        made.classList.toggle("begun", place < (this.text.begun ?? 0));
        made.id = `${strip.id}-${place}`;
        if (!made.textContent.trim()) made.setAttribute("aria-label", token.text ? "white space" : "part of a character");
        made.setAttribute("role", "option");
        made.addEventListener("mouseenter", () => this.select(place));
        made.addEventListener("click", () => this.pin(place));
        return made;
      }),
    );
    this.select(this.at);
  }

  pin(place) {
    this.select(place);
    this.pinned = this.at;
  }

  select(place) {
    const { strip, at, rows } = this.parts;
    if (!this.text?.tokens.length) return;
    this.at = Math.max(0, Math.min(place, this.text.tokens.length - 1));
    for (const [number, each] of [...strip.children].entries()) {
      each.setAttribute("aria-selected", String(number === this.at));
    }
    strip.setAttribute("aria-activedescendant", `${strip.id}-${this.at}`);
    const token = this.text.tokens[this.at];
    const moved = this.difference(token, "final");
    const times = moved === -Infinity ? ", cut" : `, ${Math.exp(moved).toFixed(2)} times as likely as under the expert`;
    at.textContent = `token ${this.at + 1} of ${this.text.tokens.length}${moved === null ? "" : times}`;
    const before = this.text.tokens.slice(0, this.at).map((each) => each.text).join("");
    rows.replaceChildren(...this.candidates(token).map((each) => this.row(each, token, before)));
  }

  row(candidate, token, before) {
    const made = element("tr", candidate.id === token.id ? "chosen" : "");
    made.classList.toggle("cut", !candidate.kept);
    const shown = candidate.text === "" ? "end" : this.spell(before, candidate.text).replace(/^ /, "␣");
    const name = element(this.choose ? "button" : "code", "", shown);
    if (this.choose) {
      name.type = "button";
      name.title = candidate.kept ? "go on with this token" : "cut; go on with it all the same";
      name.addEventListener("click", () => this.choose(candidate));
    }
    const first = element("td");
    first.append(name);
    const cells = candidate.streams.map((value) => element("td", "", percent(value)));
    const moved = candidate.kept ? candidate.final - (candidate.streams[0] ?? candidate.final) : 0;
    const final = element("td", moved > 0.02 ? "more" : moved < -0.02 ? "less" : "");
    final.textContent = candidate.kept ? `${percent(candidate.final)} %` : "cut";
    const [last, bar] = [element("td"), element("i", "bar")];
    bar.style.setProperty("--p", String(candidate.kept ? Math.exp(candidate.final) : 0));
    last.append(bar);
    made.append(first, ...cells, final, last);
    return made;
  }

  press(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -1e6, End: 1e6 };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.pin(this.pinned + steps[event.key]);
  }
}
