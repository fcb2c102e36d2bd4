/** The selected texts as a CSV file (RFC 4180), as far as the page holds them. */

import { labelOf, thresholdOf } from "./labels.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {{name: string, value: (i: number) => string}} Column */

/** @param {App} app */
export function csvOf(app) {
  const columns = [...textColumns(app), ...app.data.hypotheses.flatMap((one) => labelColumns(app, one))];
  const lines = [columns.map(({ name }) => quote(name))];
  for (const i of app.selection.rows()) lines.push(columns.map(({ value }) => quote(value(i))));
  // Spreadsheets take a file for UTF-8 if it begins with this mark.
  return `\uFEFF${lines.map((line) => `${line.join(",")}\r\n`).join("")}`;
}

/** @param {App} app @returns {Column[]} */
function textColumns({ data }) {
  const { ids, texts, textsB, rowId, values, classes } = data;
  /** @type {Column[]} */
  const columns = [];
  const add = (/** @type {string} */ name, /** @type {string[]} */ from) => columns.push({ name, value: (i) => harmless(from[i] ?? "") });
  if (rowId) columns.push({ name: "row_id", value: (i) => numeral(rowId[i]) });
  if (ids) add("id", ids);
  if (texts) add(textsB ? "text_a" : "text", texts);
  if (textsB) add("text_b", textsB);
  const target = (/** @type {number} */ i) => classes?.[values[i] ?? NaN];
  columns.push({ name: harmless(data.target), value: (i) => (classes ? harmless(target(i) ?? "") : numeral(values[i])) });
  return columns;
}

/** @param {App} app @param {import("./types.js").Hypothesis} hypothesis @returns {Column[]} */
function labelColumns({ state }, hypothesis) {
  const { id, pYes, pYesB } = hypothesis;
  const threshold = thresholdOf(hypothesis, state.view.thresholds);
  const label = { name: `label_${id}`, value: (/** @type {number} */ i) => numeral(labelOf(hypothesis, i, threshold)) };
  const first = { name: pYesB ? `p_yes_a_${id}` : `p_yes_${id}`, value: (/** @type {number} */ i) => numeral(pYes[i], 7) };
  return pYesB ? [label, first, { name: `p_yes_b_${id}`, value: (i) => numeral(pYesB[i], 7) }] : [label, first];
}

/** "" for what is not a number. @param {number | undefined} value @param {number} [digits] those that float32 has are 7 */
function numeral(value, digits) {
  if (value === undefined || !Number.isFinite(value)) return "";
  return String(digits ? Number(value.toPrecision(digits)) : value);
}

/** A text that no spreadsheet takes for a formula. @param {string} text */
function harmless(text) {
  return /^[=+\-@\t\r]/u.test(text) ? `'${text}` : text;
}

/** @param {string} cell */
function quote(cell) {
  return /[",\r\n]/u.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
