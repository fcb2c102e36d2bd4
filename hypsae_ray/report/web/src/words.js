/** Numbers of results as words.py of the report writes them. */

import { format, signed } from "./dom.js";

/** @typedef {import("./types.js").Result} Result */

/** A number of a result; NaN where there is none. @param {Result | undefined} result @param {string} name */
export function numberOf(result, name) {
  const value = result?.[name];
  return typeof value === "number" ? value : NaN;
}

/** A text of a result; "" where there is none. @param {Result} result @param {string} name */
export function textOf(result, name) {
  const value = result[name];
  return value === null || value === undefined ? "" : String(value);
}

/** With two significant digits. @param {number} p */
export function pValue(p) {
  if (!Number.isFinite(p)) return "–";
  return p < 1e-4 ? "< 0.0001" : p < 0.1 ? String(Number(p.toPrecision(2))) : p.toFixed(2);
}

/** An interval of signed numbers; "" where an end is missing. @param {number} low @param {number} high */
export function span(low, high) {
  return Number.isFinite(low) && Number.isFinite(high) ? `${signed(low)} to ${signed(high)}` : "";
}

/** @param {number} value */
export function count(value) {
  return value.toLocaleString("en");
}

/** @param {number} value @param {string} one @param {string} [many] */
export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** With as many digits as it has, up to four after the point. @param {number} value */
export function short(value) {
  return Number.isFinite(value) ? String(Number(value.toFixed(4))).replace("-", "−") : format(value);
}
