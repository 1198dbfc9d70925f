const page = JSON.parse(document.getElementById("data").textContent);
const narrow = matchMedia("(max-width: 40rem)");
const coarse = matchMedia("(pointer: coarse)");
const LINE = 52;
const LINES = 7;

function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function named(name, words) {
  const look = page.looks[name];
  const [made, dot] = [element("span", "named"), element("i", `dot ${look.shape}`)];
  if (look.colour !== null) dot.style.setProperty("--own", `var(--c${look.colour})`);
  made.append(dot, element("span", "", words ?? name));
  return made;
}

/* Figures: "@name" as a colour stands for the CSS variable of that name. */

function coloured(value, key) {
  if (Array.isArray(value)) return value.map((each) => coloured(each, key));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, k)]));
  }
  const named = key === "color" && typeof value === "string" && value.startsWith("@");
  return named ? variable(value.slice(1)) : value;
}

function wrapped(text) {
  const lines = [""];
  for (const word of text.trim().split(/\s+/)) {
    if (lines.at(-1) && lines.at(-1).length + word.length >= LINE) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word.slice(0, 3 * LINE);
  }
  if (lines.length > LINES) lines.splice(LINES, lines.length, "…");
  const escaped = lines.map((line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;"));
  return escaped.join("<br>");
}

function withTexts(trace) {
  if (!trace.customdata) return trace;
  const texts = trace.customdata.map((number) => wrapped(page.texts[number]));
  return { ...trace, text: texts, hovertemplate: "%{text}<extra>%{fullData.name}</extra>" };
}

function axis(own) {
  const line = variable("line");
  return {
    gridcolor: line, linecolor: line, zeroline: false, automargin: false,
    tickfont: { color: variable("muted") }, fixedrange: coarse.matches, ...own,
  };
}

function layout(own, kind) {
  const ink = variable("ink");
  const size = narrow.matches ? 12 : 13;
  const low = kind === "lengths" || kind === "columns";
  const made = {
    font: { family: variable("text"), size, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: low ? 42 : 56, r: 14, t: 10, b: low ? 26 : 46 }, showlegend: false,
    legend: { orientation: "h", x: 0, y: 1.03, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
    hoverlabel: {
      bgcolor: variable("surface"), bordercolor: variable("muted"), align: "left",
      font: { family: variable("text"), color: ink, size },
    },
    modebar: {
      bgcolor: "rgba(0,0,0,0)", color: variable("muted"), activecolor: variable("accent"),
      orientation: "v",
    },
    dragmode: kind === "map" && !coarse.matches ? "zoom" : false,
    ...coloured(own),
  };
  // Names stand beside the points where there is room, else in a legend unless it would be long.
  if (kind === "trade") made.showlegend = narrow.matches && own.meta.few;
  return { ...made, xaxis: axis(made.xaxis), yaxis: axis(made.yaxis) };
}

function traces(figure, kind, only) {
  return coloured(figure.data).map(withTexts).map((trace) => {
    if (kind === "map" && only) trace.visible = trace.name === only || trace.name === "real";
    if (kind === "trade" && narrow.matches && trace.text) trace.mode = "markers";
    return trace;
  });
}

function draw(place) {
  const { kind, number } = place.dataset;
  const figure = page.figures[kind][number];
  const bar = kind === "map" && !coarse.matches;
  const only = kind === "map" ? document.getElementById("map-method").value : "";
  Plotly.react(place, traces(figure, kind, only), layout(figure.layout, kind), {
    responsive: true, displaylogo: false, displayModeBar: bar,
    modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
  });
}

const plots = [...document.querySelectorAll(".plot")];

function drawAll() {
  plots.filter((place) => "drawn" in place.dataset).forEach(draw);
}

/* One after the other, so that the page can be read and scrolled meanwhile. */
function drawNext(rest) {
  if (!rest.length) {
    document.documentElement.dataset.ready = "";
    return;
  }
  draw(rest[0]);
  rest[0].dataset.drawn = "";
  rest[0].dispatchEvent(new Event("drawn"));
  setTimeout(drawNext, 0, rest.slice(1));
}

function setUpMap() {
  const map = plots.find((place) => place.dataset.kind === "map");
  if (!map) return;
  const reading = document.getElementById("map-text");
  const show = (event) => {
    const point = event.points[0];
    if (point.customdata === undefined) return;
    const label = point.data.meta[point.pointNumber];
    const head = named(point.data.name, label ? `${point.data.name}, ${label}` : point.data.name);
    reading.replaceChildren(head, page.texts[point.customdata]);
  };
  document.getElementById("map-method").addEventListener("change", () => draw(map));
  map.addEventListener("drawn", () => {
    map.on("plotly_hover", show);
    map.on("plotly_click", show);
  });
}

/* Tables: a click sorts best first, the next one worst first; the real texts stay below. */

function sortBy(heading) {
  const table = heading.closest("table");
  const column = heading.cellIndex;
  const down = heading.getAttribute("aria-sort") !== "descending";
  const good = (row) => {
    const value = row.cells[column].dataset.good;
    return value === "" || value === undefined ? null : Number(value);
  };
  const rows = [...table.tBodies[0].rows];
  rows.sort((one, other) => {
    const [a, b] = [good(one), good(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    return down ? b - a : a - b;
  });
  table.querySelectorAll("[aria-sort]").forEach((each) => each.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

/* Texts. */

function pairCard(pair) {
  const card = element("article", "card pair");
  const head = element("header");
  const name = element("strong");
  name.append(named(pair.method));
  const run = `longest shared run: ${pair.run} ${pair.run === 1 ? "word" : "words"}`;
  head.append(name, element("span", "muted", `cosine ${pair.cosine.toFixed(3)}`));
  head.append(element("span", "muted", run), element("span", "muted", pair.id));
  card.append(head);
  ["synthetic", "nearest real text"].forEach((side, i) => {
    const paragraph = element("p");
    paragraph.append(element("span", "side", side), markedText(page.texts[pair.texts[i]], pair.marks[i]));
    card.append(paragraph);
  });
  return card;
}

function showPairs() {
  const method = document.getElementById("pairs-method").value;
  const shown = page.pairs.filter((pair) => !method || pair.method === method);
  const place = document.getElementById("pairs");
  place.replaceChildren(...shown.slice(0, page.shown).map(pairCard));
}

function recordItem(record) {
  const item = element("li", "card");
  if (record.label) item.append(element("span", "tag label", record.label));
  item.append(element("span", "tag", record.id), element("br"));
  if (record.asked !== undefined) item.append(element("span", "asked", page.texts[record.asked]));
  item.append(page.texts[record.text]);
  return item;
}

function showRecords() {
  const method = document.getElementById("records-method").value;
  document.getElementById("records").replaceChildren(...page.records[method].map(recordItem));
}

/* Token by token: the sliders weigh the streams anew. */

function makeDial(name, most, move) {
  const [made, label, dial] = [element("div", "slider"), element("label", "", name), element("input")];
  const value = element("output");
  Object.assign(dial, { type: "range", id: `dial-${name}`, min: "0", max: most, step: name === "alpha" ? "0.001" : "0.05" });
  label.htmlFor = value.htmlFor = dial.id;
  label.append(value);
  dial.addEventListener("input", move);
  made.append(label, dial);
  const set = (to) => {
    dial.value = String(to);
    value.textContent = dial.value;
  };
  return { name, made, dial, value, set };
}

function setUpTraces() {
  if (!page.traces.length) return;
  const part = (id) => document.getElementById(id);
  const [strip, against, at, heads, rows] = ["strip", "against", "at", "streams", "candidates"].map(part);
  const view = new Tokens({ strip, against, at, heads, rows });
  const kinds = [["gamma", "2"], ["eta", "2"], ["rho", "0.95"], ["alpha", "0.5"]];
  const move = () => {
    const now = Object.fromEntries(dials.map((each) => [each.name, Number(each.dial.value)]));
    for (const each of dials) each.value.textContent = each.dial.value;
    view.recompute({ weights: reweigh(view.text, now), alpha: now.alpha });
  };
  const dials = kinds.map(([name, most]) => makeDial(name, most, move));
  part("dials").append(...dials.map((each) => each.made));
  const show = () => {
    const trace = page.traces[Number(part("trace").value)];
    for (const each of dials) {
      each.set(trace.dials[each.name]);
      const unknown = each.name === "alpha" ? trace.streams[0] !== "expert" : !trace.dials[each.name];
      each.dial.disabled = unknown || trace.adaptive;
    }
    view.recompute(null);
    view.show(trace);
  };
  const name = (trace) => `${trace.method}, ${trace.id}`;
  part("trace").append(...page.traces.map((trace, i) => new Option(name(trace), i)));
  part("trace").addEventListener("change", show);
  show();
}

/* Contents: open beside the text, folded above it on a small screen. */

function setUpContents() {
  const nav = document.querySelector("nav");
  const wide = matchMedia("(min-width: 68rem)");
  const fold = () => {
    nav.toggleAttribute("data-wide", wide.matches);
    nav.querySelector("details").open = wide.matches;
  };
  wide.addEventListener("change", fold);
  fold();
  const links = new Map([...nav.querySelectorAll("a")].map((a) => [a.hash.slice(1), a]));
  nav.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) nav.querySelector("details").open = false;
  });
  const seen = new IntersectionObserver((entries) => {
    const entry = entries.find((each) => each.isIntersecting);
    if (!entry) return;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id).setAttribute("aria-current", "true");
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("main section").forEach((section) => seen.observe(section));
}

setUpContents();
document.querySelectorAll("thead button").forEach((button) => {
  button.addEventListener("click", () => sortBy(button.closest("th")));
});
document.getElementById("pairs-method").addEventListener("change", showPairs);
document.getElementById("records-method").addEventListener("change", showRecords);
showPairs();
showRecords();
setUpMap();
setUpTraces();
["(prefers-color-scheme: dark)", "print"].forEach((query) => {
  matchMedia(query).addEventListener("change", drawAll);
});
narrow.addEventListener("change", drawAll);
drawNext(plots);
