/** Thresholds of P(yes) that the reader has changed, as the view keeps them: "3=0.7,5=0.2". */

/** @typedef {import("./types.js").Hypothesis} Hypothesis */

/**
 * The changes with that of one hypothesis replaced.
 * @param {string} thresholds
 * @param {number} id
 * @param {number | null} value null: its own threshold again
 */
export function withThreshold(thresholds, id, value) {
  const others = thresholds.split(",").filter((change) => change && change.split("=")[0] !== String(id));
  return [...others, ...(value === null ? [] : [`${id}=${value}`])].join(",");
}

/** Whether another threshold can change a label: P(yes) is not 0 or 1 everywhere. @param {Hypothesis} hypothesis */
export function isGraded({ pYes, pYesB }) {
  /** @param {number} p */
  const between = (p) => p > 0 && p < 1;
  return pYes.some(between) || (pYesB?.some(between) ?? false);
}
