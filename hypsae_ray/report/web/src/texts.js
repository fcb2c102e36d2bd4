/** How a text of the run is named and shown, as far as the page holds it. */

/** @typedef {import("./types.js").RunData} RunData */

/**
 * What the page holds of a text: it, both texts of a pair, its id, or nothing.
 * @param {RunData} data @param {number} i @returns {string[]}
 */
export function partsOf(data, i) {
  const { texts, textsB, ids } = data;
  if (texts) return textsB ? [texts[i] ?? "", textsB[i] ?? ""] : [texts[i] ?? ""];
  return ids ? [ids[i] ?? ""] : [];
}

/** Id of a text, or where the page holds none its number in the page. @param {RunData} data @param {number} i */
export function nameOf(data, i) {
  return data.ids?.[i] ?? `${unitOf(data, 1)} ${i + 1}`;
}

/** The target as people read it: the name of a class, or a number. @param {RunData} data @param {number} i */
export function targetOf(data, i) {
  const value = data.values[i] ?? NaN;
  return data.classes?.[value] ?? numberOf(value);
}

/** A number as short as it can be read. @param {number} value */
export function numberOf(value) {
  if (!Number.isFinite(value)) return "–";
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(4))).replace("-", "−");
}

/** @param {RunData} data @param {number} count */
export function unitOf(data, count) {
  const unit = data.task === "pairwise" ? "pair" : "text";
  return count === 1 ? unit : `${unit}s`;
}

/** @param {RunData} data @param {number} count "1,204 texts" */
export function counted(data, count) {
  return `${count.toLocaleString("en")} ${unitOf(data, count)}`;
}

/** @param {string} text @param {number} length */
export function cut(text, length) {
  return text.length > length ? `${text.slice(0, length).trimEnd()}…` : text;
}
