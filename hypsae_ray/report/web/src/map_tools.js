/** The tools above the map: colour, search, selection, zoom. */

import { byId, h } from "./dom.js";
import { counted, cut } from "./texts.js";
import { titleOf } from "./tones.js";

/**
 * @typedef {import("./types.js").App} App
 *
 * @typedef {object} Use
 * @property {(isOn: boolean) => void} draw  whether a drag draws
 * @property {(factor: number) => void} zoom  0 for the whole map
 */

/** A search waits until typing pauses. */
const PAUSE_MS = 150;

/** @param {App} app @param {Use} use */
export function mountTools(app, use) {
  const draw = h("button", { type: "button", "aria-pressed": "false", click: toggle }, "Draw a selection");
  function toggle() {
    const isOn = draw.getAttribute("aria-pressed") !== "true";
    draw.setAttribute("aria-pressed", String(isOn));
    use.draw(isOn);
  }
  byId("map-tools").append(
    colourSelect(app),
    ...(app.data.policy === "none" ? [] : [searchBox(app)]),
    h("span", { class: "tool-group" }, draw, clearButton(app)),
    zoomButtons(use),
    statusLine(app),
  );
}

/** A field under its name. @param {string} name @param {string} id @param {HTMLElement} field */
function tool(name, id, field) {
  field.id = id;
  return h("span", { class: "tool" }, h("label", { for: id }, name), field);
}

/** @param {App} app */
function colourSelect({ data, state }) {
  const group = (/** @type {string} */ kind, /** @type {string} */ label) =>
    h("optgroup", { label }, ...data.hypotheses.map((one) => h("option", { value: `${kind}:${one.id}` }, cut(titleOf(one), 70))));
  const select = h(
    "select",
    { change: () => state.set({ colour: select.value }) },
    h("option", { value: "target" }, data.target),
    group("label", "Label of a hypothesis"),
    group("activation", "Activation of its neuron"),
  );
  state.on(["colour"], () => {
    select.value = state.view.colour;
    if (select.selectedIndex < 0) select.value = "target";
  });
  return tool("Colour", "map-colour", select);
}

/** @param {App} app */
function searchBox({ data, state }) {
  let timer = 0;
  const seek = () => {
    clearTimeout(timer);
    state.set({ search: input.value.trim() });
  };
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(seek, PAUSE_MS);
  };
  const input = h("input", { type: "search", autocomplete: "off", spellcheck: "false", placeholder: "word or /pattern/", input: wait, change: seek });
  state.on(["search"], () => {
    if (input.value.trim() !== state.view.search) input.value = state.view.search;
  });
  return tool(data.texts ? "Search the texts" : "Search the ids", "map-search", input);
}

/** @param {App} app */
function clearButton({ state }) {
  const button = h("button", { type: "button", click: () => state.set({ lasso: "", search: "" }) }, "Clear selection");
  state.on(["lasso", "search"], () => {
    button.disabled = !state.view.lasso && !state.view.search;
  });
  return button;
}

/** @param {Use} use */
function zoomButtons({ zoom }) {
  const button = (/** @type {string} */ text, /** @type {number} */ factor, /** @type {string | null} */ name = null) =>
    h("button", { type: "button", "aria-label": name, click: () => zoom(factor) }, text);
  return h("span", { class: "tool-group" }, button("+", 1.6, "zoom in"), button("−", 1 / 1.6, "zoom out"), button("Whole map", 0));
}

/** How many texts are meant, or why the search cannot be run. @param {App} app */
function statusLine({ data, state, selection }) {
  const status = h("span", { role: "status", class: "map-status" });
  state.on(["search", "lasso"], () => {
    status.classList.toggle("note", selection.problem !== "");
    status.textContent = selection.problem || (selection.isEmpty ? "" : said(data, selection, state.view.search));
  });
  return status;
}

/** @param {import("./types.js").RunData} data @param {import("./selection.js").Selection} selection @param {string} search */
function said(data, { found, inside }, search) {
  const parts = [];
  if (found) parts.push(`${counted(data, sum(found))} found for ${cut(search, 40)}`);
  if (inside) parts.push(`${counted(data, sum(inside))} in the drawn selection`);
  return parts.join(", ");
}

/** @param {Uint8Array} mask */
export function sum(mask) {
  return mask.reduce((total, one) => total + one, 0);
}
