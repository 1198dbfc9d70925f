/* The page: settings on the left, what is done with them on the right. */

import { get, remember } from "./api.js";
import { startChosen } from "./chosen.js";
import { startJudge } from "./judge.js";
import { startMap } from "./map.js";
import { startMask } from "./mask.js";
import { startSee } from "./see.js";
import { byId, changed, DIALS, element, model, problem, state } from "./state.js";
import { startTabs } from "./tabs.js";
import { startTake } from "./take.js";
import { loadTexts, startTexts } from "./texts.js";
import { startWrite } from "./write.js";

function makeDials() {
  for (const [name, least, most, step, says] of DIALS) {
    const [made, label] = [element("div", "slider"), element("label", "", name)];
    const [dial, value] = [element("input"), element("output")];
    Object.assign(dial, { type: "range", id: `dial-${name}`, min: least, max: most, step });
    label.htmlFor = value.htmlFor = dial.id;
    label.append(value);
    const about = element("span", "says", says);
    about.id = `says-${name}`;
    dial.setAttribute("aria-describedby", about.id);
    dial.addEventListener("input", () => changed("settings"));
    made.append(label, dial, about);
    byId("sliders").append(made);
  }
  document.addEventListener("steer-settings", () => {
    for (const [name] of DIALS) {
      byId("sliders").querySelector(`[for=dial-${name}] output`).textContent = byId(`dial-${name}`).value;
    }
  });
}

function chooseModel() {
  const { labels, prompt, max_tokens, methods, real_texts, chats, shape } = model().steer;
  const what = chats ? "Answers, each to a real chat" : `“${prompt}”`;
  const held = shape ? ` · held to a ${shape}` : "";
  byId("about").textContent = `${what} · ${real_texts} real texts${held}`;
  byId("label-row").hidden = !labels.length;
  byId("label").replaceChildren(...labels.map((each) => new Option(each)));
  byId("most").value = String(max_tokens);
  byId("method").replaceChildren(...methods.map((each) => new Option(each.name)));
  byId("method").value = "steer";
  chooseMethod();
  changed("model");
  changed("mask");
  loadTexts();
}

function chooseMethod() {
  const chosen = model().steer.methods.find((each) => each.name === byId("method").value);
  byId("method-about").textContent = chosen.about;
  for (const [name] of DIALS) byId(`dial-${name}`).value = String(chosen[name]);
  changed("settings");
}

async function start() {
  try {
    state.models = (await get("/v1/models")).data;
  } catch (error) {
    byId("door").hidden = error.status !== 401;
    if (error.status !== 401 || sessionStorage.getItem("steer-key")) problem(error);
    return;
  }
  byId("door").hidden = true;
  problem(null);
  byId("model").replaceChildren(...state.models.map((each) => new Option(each.id)));
  byId("settings").open = matchMedia("(min-width: 60rem)").matches;
  chooseModel();
  document.documentElement.dataset.ready = "";
}

makeDials();
for (const begin of [startMask, startWrite, startSee, startMap, startChosen, startTexts, startJudge, startTake]) {
  begin();
}
startTabs();
byId("model").addEventListener("change", () => {
  state.away = [];
  state.towards = [];
  changed("moved");
  chooseModel();
});
byId("method").addEventListener("change", chooseMethod);
for (const id of ["label", "seed", "count", "most"]) {
  byId(id).addEventListener("input", () => changed("settings"));
}
byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(byId("key").value);
  start();
});
start();
