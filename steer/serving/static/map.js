/* The map: a point for each text. A line or a rectangle drawn on it chooses those inside. */

import { choose } from "./chosen.js";
import { loadMap, place } from "./places.js";
import { byId, changed, focusOn, onChange, state } from "./state.js";

const NEAR = 14; // pixels from a point that still hit it
const EDGE = 14; // pixels around the points
let about = null; // what the server says of the map
let bounds = null; // what is shown: [left, top, right, bottom] on the plane
let path = []; // what is drawn, in pixels
let found = null; // ids that the search finds; null without one

export function highlight(ids) {
  found = ids;
  draw();
}

const canvas = () => byId("map");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const points = () => [...state.places].filter(([, each]) => each.point);

function around(ids) {
  const known = ids.map((id) => state.places.get(id)?.point).filter(Boolean);
  if (!known.length) return null;
  const [x, y] = [0, 1].map((axis) => known.map((point) => point[axis]));
  const made = [Math.min(...x), Math.min(...y), Math.max(...x), Math.max(...y)];
  const least = 0.02; // one text has no extent
  return [made[0] - least, made[1] - least, made[2] + least, made[3] + least];
}

/* Pixels of a point of the plane. */
function toScreen([x, y]) {
  const { clientWidth: width, clientHeight: height } = canvas();
  const [left, top, right, bottom] = bounds;
  const scale = (value, low, high, size) => EDGE + ((value - low) / (high - low)) * (size - 2 * EDGE);
  return [scale(x, left, right, width), scale(y, bottom, top, height)];
}

function style(id) {
  const written = state.written.get(id);
  const sent = ["away", "towards"].find((where) => state[where].some((each) => each.id === id));
  if (sent === "away") return { colour: "down", size: 4.5, alpha: 1, shape: "disc" };
  if (sent) return { colour: "good", size: 5, alpha: 1, shape: "triangle" };
  if (written) {
    const open = written.asked.method === "plain";
    return { colour: "accent", size: 4, alpha: 1, shape: "square", open };
  }
  if (state.chosen.has(id)) return { colour: "ink", size: 3, alpha: 0.9, shape: "disc" };
  const alpha = found ? (found.has(id) ? 0.95 : 0.13) : 0.5;
  return { colour: "muted", size: found?.has(id) ? 3 : 2.2, alpha, shape: "disc" };
}

function dot(pen, [x, y], { colour, size, alpha, shape, open }, colours) {
  pen.globalAlpha = alpha;
  pen.fillStyle = pen.strokeStyle = colours[colour];
  pen.beginPath();
  if (shape === "square") pen.rect(x - size, y - size, 2 * size, 2 * size);
  else if (shape === "disc") pen.arc(x, y, size, 0, 7);
  else for (const [dx, dy] of [[0, -1], [1, 0.8], [-1, 0.8]]) pen.lineTo(x + dx * size, y + dy * size);
  if (open) pen.stroke();
  else pen.fill();
}

function ring(pen, [x, y], size, ink, width) {
  pen.globalAlpha = 1;
  pen.strokeStyle = ink;
  pen.lineWidth = width;
  pen.beginPath();
  pen.arc(x, y, size, 0, 7);
  pen.stroke();
}

function drawFocus(pen, colours) {
  const here = state.places.get(state.focus);
  if (!here?.point) return;
  const from = toScreen(here.point);
  const near = state.places.get(here.nearest)?.point;
  if (near) {
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...toScreen(near));
    pen.strokeStyle = colours.ink;
    pen.stroke();
    ring(pen, toScreen(near), 6, colours.ink, 1);
  }
  ring(pen, from, 8, colours.ink, 2.5);
}

export function draw() {
  const area = canvas();
  if (!about || !area.clientWidth) return;
  const ratio = window.devicePixelRatio || 1;
  area.width = area.clientWidth * ratio;
  area.height = area.clientHeight * ratio;
  const pen = area.getContext("2d");
  pen.scale(ratio, ratio);
  const colours = Object.fromEntries(
    ["muted", "good", "down", "accent", "ink"].map((name) => [name, colour(name)]),
  );
  const looks = points().map(([id, each]) => [id, toScreen(each.point), style(id)]);
  looks.sort((a, b) => a[2].size - b[2].size); // what matters lies on top
  for (const [, at, look] of looks) dot(pen, at, look, colours);
  for (const [id, at, look] of looks) {
    if (state.chosen.has(id) && look.size > 3) ring(pen, at, look.size + 2.5, colours.ink, 1.2);
  }
  drawFocus(pen, colours);
  if (path.length > 1) drawPath(pen, colours);
}

function drawPath(pen, colours) {
  pen.globalAlpha = 1;
  pen.strokeStyle = pen.fillStyle = colours.accent;
  pen.lineWidth = 1.5;
  pen.beginPath();
  outline().forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.closePath();
  pen.stroke();
  pen.globalAlpha = 0.12;
  pen.fill();
}

/* Corners of what is drawn. */
function outline() {
  if (byId("draw").value === "line") return path;
  const [[left, top], [right, bottom]] = [path[0], path.at(-1)];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

function inside([x, y], corners) {
  let odd = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i, i += 1) {
    const [[ax, ay], [bx, by]] = [corners[i], corners[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

function nearestTo([x, y]) {
  const away = ([, each]) => Math.hypot(...toScreen(each.point).map((value, i) => value - [x, y][i]));
  const ranked = points().map((each) => [away(each), each[0]]);
  const best = ranked.reduce((a, b) => (b[0] < a[0] ? b : a), [NEAR, null]);
  return best[1];
}

const spot = (event) => [event.offsetX, event.offsetY];

function press(event) {
  if (!about || event.button) return;
  canvas().setPointerCapture(event.pointerId);
  path = [spot(event)];
}

function drag(event) {
  if (!path.length) return;
  path.push(spot(event));
  draw();
}

function release(event) {
  if (!path.length) return;
  const corners = outline();
  const far = path.some((each) => Math.hypot(each[0] - path[0][0], each[1] - path[0][1]) > 6);
  const shown = points().filter(([, each]) => inside(toScreen(each.point), corners));
  const hit = far ? shown.map(([id]) => id) : [nearestTo(path[0])].filter(Boolean);
  path = [];
  choose(hit, event.shiftKey || byId("add").checked);
  if (!far && hit.length) focusOn(hit[0]);
  draw();
}

function zoom(ids) {
  bounds = around(ids) ?? bounds;
  draw();
}

/* Texts that were written lately get their places. */
export async function placeWritten() {
  if (!about) return;
  const ended = [...state.written].filter(([, text]) => text.ended && text.text.trim());
  await place(ended.map(([id]) => id)).catch(() => {});
}

export async function openMap() {
  const says = byId("map-says");
  if (about) return draw();
  try {
    about = await loadMap((words) => (says.textContent = words));
  } catch (error) {
    says.textContent = `No map: ${error.message}. The list does without.`;
    return;
  }
  const share = `${Math.round(100 * about.share)}%`;
  says.textContent =
    about.method === "UMAP"
      ? "By UMAP: texts of like meaning lie close. How far groups lie apart says little."
      : `By PCA: texts of like meaning lie close. These two directions carry ${share} of how texts differ: far apart is far apart, and close may still differ in others.`;
  canvas().closest("figure").hidden = byId("map-tools").hidden = false;
  zoom([...state.places.keys()]);
  await placeWritten();
}

export function startMap() {
  const area = canvas();
  area.addEventListener("pointerdown", press);
  area.addEventListener("pointermove", drag);
  area.addEventListener("pointerup", release);
  area.addEventListener("pointercancel", () => (path = []));
  byId("closer").addEventListener("click", () => zoom([...state.chosen]));
  byId("whole").addEventListener("click", () => zoom([...state.places.keys()]));
  for (const what of ["places", "moved", "chosen", "focus"]) onChange(what, draw);
  onChange("written", placeWritten);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(area);
}
