/** Which texts and which class What if compares: fields above its table. */

import { h } from "./dom.js";
import { readSubgroup, writeSubgroup } from "./subgroup.js";
import { count, short } from "./words.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./subgroup.js").Subgroup} Subgroup */
/** @typedef {import("./types.js").RunData["covariates"][number]} Covariate */
/** @typedef {{element: HTMLElement, show: (subgroup: Subgroup) => void}} Field */

/** Fields, and a function that sets them to what the view says. @param {App} app */
export function whatIfTools(app) {
  const { data, state } = app;
  const fields = [
    ...(data.classes ? [classField(app, data.classes)] : []),
    ...data.covariates.flatMap((covariate) => covariateField(app, covariate) ?? []),
    selectedField(app),
  ];
  const clear = () => state.set({ subgroup: "", thresholds: "" });
  const reset = h("button", { type: "button", class: "reset", click: clear }, "reset");
  const show = () => {
    const subgroup = readSubgroup(state.view.subgroup);
    for (const field of fields) field.show(subgroup);
    reset.disabled = !state.view.subgroup && !state.view.thresholds;
  };
  return { elements: [...fields.map((field) => field.element), reset], show };
}

/** @param {App} app @param {(subgroup: Subgroup) => void} edit */
function change({ state }, edit) {
  const subgroup = readSubgroup(state.view.subgroup);
  edit(subgroup);
  state.set({ subgroup: writeSubgroup(subgroup) });
}

/** @param {App} app @param {string[]} classes @returns {Field} */
function classField(app, classes) {
  const options = classes.map((name, code) => h("option", { value: code }, name));
  const set = () => change(app, (subgroup) => void (subgroup.code = Number(select.value)));
  const select = h("select", { change: set }, ...options);
  return {
    element: h("label", {}, "class ", select),
    show: ({ code }) => void (select.value = String(code)),
  };
}

/** Null where all texts have the same value. @param {App} app @param {Covariate} covariate @returns {Field | null} */
function covariateField(app, { name, values }) {
  const known = values.filter(Number.isFinite);
  const [low, high] = known.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  if (!(low < high)) return null;
  const isFlag = low === 0 && high === 1 && known.every((value) => value === 0 || value === 1);
  return isFlag ? flagField(app, name) : rangeField(app, name, low, high);
}

/** @param {App} app @param {string} name @returns {Field} */
function flagField(app, name) {
  const set = () => {
    const value = Number(select.value);
    change(app, ({ ranges }) => setRange(ranges, name, select.value === "" ? null : [value, value]));
  };
  const choices = [["", "all"], ["1", "yes"], ["0", "no"]];
  const options = choices.map(([value, label]) => h("option", { value: value ?? "" }, label));
  const select = h("select", { change: set }, ...options);
  return {
    element: h("label", {}, `${name} `, select),
    show: ({ ranges }) => void (select.value = ranges.has(name) ? String(ranges.get(name)?.[0]) : ""),
  };
}

/** @param {App} app @param {string} name @param {number} low @param {number} high @returns {Field} */
function rangeField(app, name, low, high) {
  /** @param {HTMLInputElement} input @param {number} empty */
  const valueOf = (input, empty) => (Number.isNaN(input.valueAsNumber) ? empty : input.valueAsNumber);
  const set = () => {
    const [from, to] = [valueOf(least, -Infinity), valueOf(most, Infinity)];
    change(app, ({ ranges }) => setRange(ranges, name, from === -Infinity && to === Infinity ? null : [from, to]));
  };
  /** @param {string} end @param {number} hint */
  const field = (end, hint) =>
    h("input", { type: "number", step: "any", placeholder: short(hint), "aria-label": `${name}, ${end}`, input: set });
  const [least, most] = [field("lowest", low), field("highest", high)];
  const show = (/** @type {Subgroup} */ { ranges }) => {
    const [from, to] = ranges.get(name) ?? [-Infinity, Infinity];
    if (valueOf(least, -Infinity) !== from) least.value = Number.isFinite(from) ? String(from) : "";
    if (valueOf(most, Infinity) !== to) most.value = Number.isFinite(to) ? String(to) : "";
  };
  const legend = h("span", { class: "amount" }, `${short(low)} to ${short(high)}`);
  const group = { class: "range", role: "group", "aria-label": name };
  return { element: h("span", group, `${name} `, least, " to ", most, " ", legend), show };
}

/** @param {Subgroup["ranges"]} ranges @param {string} name @param {[number, number] | null} bounds */
function setRange(ranges, name, bounds) {
  if (bounds) ranges.set(name, bounds);
  else ranges.delete(name);
}

/** @param {App} app @returns {Field} */
function selectedField(app) {
  const set = () => change(app, (subgroup) => void (subgroup.selected = box.checked));
  const box = h("input", { type: "checkbox", change: set });
  const label = h("span");
  return {
    element: h("label", {}, box, " ", label),
    show: ({ selected }) => {
      const { isEmpty } = app.selection;
      box.checked = selected && !isEmpty;
      box.disabled = isEmpty;
      const n = isEmpty ? "none are" : count(app.selection.rows().length);
      label.textContent = `only the selected texts (${n})`;
    },
  };
}
