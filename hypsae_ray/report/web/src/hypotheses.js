/** The table of hypotheses, which is in the page already: sorted, filtered and searched in place. */

import { byId, h } from "./dom.js";
import { mountForestFigure } from "./forest_figure.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Result} Result */
/** @typedef {{element: HTMLTableRowElement, sentence: string, result: Result}} Row */

/** What can be sorted by: names of columns of the evaluation, and how they are called. */
const ORDERS = /** @type {const} */ ([
  ["regression_coef", "effect"],
  ["size", "size of the effect"],
  ["regression_pval_adj", "p of the effect"],
  ["separation_score", "separation"],
  ["feature_prevalence", "prevalence"],
  ["f1_fidelity_score", "fidelity"],
  ["stability", "stability"],
]);
const LIMITS = /** @type {const} */ ([
  ["prevalence", "feature_prevalence"],
  ["fidelity", "f1_fidelity_score"],
  ["stability", "stability"],
]);

/** @param {App} app */
export function mountHypotheses(app) {
  const rows = readRows(app);
  if (!rows.length) return;
  const status = h("span", { role: "status" });
  byId("hypothesis-tools").append(finder(app), ...filters(app, rows), sorter(app, rows), status);
  app.state.on(["find", "filter"], () => {
    const shown = rows.filter((row) => show(row, passes(row, app.state.view)));
    status.textContent = shown.length === rows.length ? "" : `${shown.length} of ${rows.length}`;
  });
  app.state.on(["sort"], () => sortRows(rows, app.state.view.sort));
  mountForestFigure(app, () => ordered(rows).filter((row) => !row.element.hidden));
}

/** @param {App} app @returns {Row[]} */
function readRows({ data }) {
  /** @type {NodeListOf<HTMLTableRowElement>} */
  const elements = document.querySelectorAll("#hypotheses tr[data-hypothesis]");
  return [...elements].map((element) => {
    const one = data.hypotheses.find((hypothesis) => String(hypothesis.id) === element.dataset.hypothesis);
    const ofClass = (/** @type {Result} */ result) => String(result.target_class ?? "") === element.dataset.class;
    const results = one?.results ?? [];
    return { element, sentence: one?.sentence ?? "", result: results.find(ofClass) ?? results[0] ?? {} };
  });
}

/** @param {App} app */
function finder({ state }) {
  const change = (/** @type {{target: HTMLInputElement}} */ event) => state.set({ find: event.target.value });
  return h("label", {}, "Find ", h("input", { type: "search", value: state.view.find, input: change }));
}

/** @param {App} app @param {Row[]} rows @returns {HTMLElement[]} */
function filters(app, rows) {
  const significant = h("label", {}, toggle(app, "significant"), " significant");
  const sign = choice(app, "sign", [["", "any"], ["positive", "positive"], ["negative", "negative"]]);
  const limits = LIMITS.filter(([, column]) => rows.some((row) => typeof row.result[column] === "number"));
  return [significant, h("label", {}, "Effect ", sign), ...limits.map(([name]) => limit(app, name))];
}

/** @param {App} app @param {string} name */
function toggle({ state }, name) {
  const on = name in conditions(state.view.filter);
  const change = (/** @type {{target: HTMLInputElement}} */ event) =>
    state.set({ filter: withCondition(state.view.filter, name, event.target.checked ? "yes" : "") });
  return h("input", { type: "checkbox", checked: on, change });
}

/** @param {App} app @param {string} name @param {string[][]} options */
function choice({ state }, name, options) {
  const now = conditions(state.view.filter)[name] ?? "";
  const change = (/** @type {{target: HTMLSelectElement}} */ event) =>
    state.set({ filter: withCondition(state.view.filter, name, event.target.value) });
  const items = options.map(([value = "", label]) => h("option", { value, selected: value === now }, label));
  return h("select", { change }, ...items);
}

/** @param {App} app @param {string} name */
function limit({ state }, name) {
  const value = conditions(state.view.filter)[name] ?? "";
  const input = (/** @type {{target: HTMLInputElement}} */ event) =>
    state.set({ filter: withCondition(state.view.filter, name, event.target.value) });
  const field = h("input", { type: "number", min: 0, max: 1, step: 0.05, placeholder: 0, value, input });
  return h("label", {}, `${name[0]?.toUpperCase()}${name.slice(1)} from `, field);
}

/** @param {App} app @param {Row[]} rows */
function sorter({ state }, rows) {
  const options = ORDERS.filter(([column]) => rows.some((row) => Number.isFinite(valueOf(row, column))));
  const select = h(
    "select",
    { change: (/** @type {{target: HTMLSelectElement}} */ event) => state.set({ sort: event.target.value }) },
    h("option", { value: "" }, "as written"),
    ...options.flatMap(([column, label]) => [
      h("option", { value: `-${column}` }, `${label}, largest first`),
      h("option", { value: column }, `${label}, smallest first`),
    ]),
  );
  state.on(["sort"], () => (select.value = state.view.sort));
  return h("label", {}, "Sort by ", select);
}

/** The conditions of a filter, by name. @param {string} filter "significant=yes,fidelity=0.5" */
export function conditions(filter) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const part of filter.split(",").filter(Boolean)) {
    const [name = "", value = ""] = part.split("=");
    found[name] = value;
  }
  return found;
}

/** @param {string} filter @param {string} name @param {string} value  "" takes the condition out */
function withCondition(filter, name, value) {
  const all = { ...conditions(filter), [name]: value };
  return Object.entries(all).filter(([, one]) => one).map(([key, one]) => `${key}=${one}`).join(",");
}

/** @param {Row} row @param {import("./types.js").View} view */
function passes(row, view) {
  const asked = conditions(view.filter);
  const effect = Number(row.result.regression_coef ?? NaN);
  if (!row.sentence.toLowerCase().includes(view.find.trim().toLowerCase())) return false;
  if (asked.significant && !row.result.significant) return false;
  if (asked.sign === "positive" && !(effect > 0)) return false;
  if (asked.sign === "negative" && !(effect < 0)) return false;
  return LIMITS.every(([name, column]) => !asked[name] || Number(row.result[column] ?? NaN) >= Number(asked[name]));
}

/** The rows as they stand in the table. @param {Row[]} rows */
function ordered(rows) {
  return [...rows].sort((a, b) => a.element.rowIndex - b.element.rowIndex);
}

/** @param {Row} row @param {boolean} shown */
function show(row, shown) {
  row.element.hidden = !shown;
  return shown;
}

/** @param {Row} row @param {string} column */
function valueOf(row, column) {
  const value = row.result[column === "size" ? "regression_coef" : column];
  const number = typeof value === "number" ? value : NaN;
  return column === "size" ? Math.abs(number) : number;
}

/** Put the rows in order; those without a value come last, either way. @param {Row[]} rows @param {string} sort */
function sortRows(rows, sort) {
  const sign = sort.startsWith("-") ? -1 : 1;
  const column = sort.replace(/^-/, "");
  const known = (/** @type {Row} */ row) => Number.isFinite(valueOf(row, column));
  const inOrder = !sort
    ? rows
    : [
        ...rows.filter(known).sort((a, b) => sign * (valueOf(a, column) - valueOf(b, column))),
        ...rows.filter((row) => !known(row)),
      ];
  inOrder[0]?.element.parentElement?.append(...inOrder.map((row) => row.element));
}
