/** How P(yes) of a hypothesis is spread over texts, and where the threshold cuts it. */

import { rectY, ruleX } from "@observablehq/plot";
import { format } from "./dom.js";
import { figure } from "./figure.js";
import { count } from "./words.js";

/** @typedef {import("./types.js").Hypothesis} Hypothesis */
/** @typedef {{from: number, to: number, n: number}} Bin */

const BINS = 50;

/** @param {Hypothesis} hypothesis @param {Int32Array} rows @param {number} threshold */
export function histogram({ id, pYes, pYesB }, rows, threshold) {
  const bins = binned([pYes, ...(pYesB ? [pYesB] : [])], rows);
  const above = rows.reduce((n, row) => n + Number(/** @type {number} */ (pYes[row]) >= threshold), 0);
  return figure(
    {
      width: 640,
      height: 130,
      marginLeft: 48,
      marginTop: 12,
      marginBottom: 32,
      x: { domain: [0, 1], label: "P(yes)", ticks: 10 },
      y: { type: "sqrt", label: "texts (square-root scale)", ticks: 4, tickFormat: (/** @type {number} */ n) => (Number.isInteger(n) ? count(n) : "") },
      marks: [
        rectY(bins, { x1: "from", x2: "to", y: "n", insetLeft: 0.5, insetRight: 0.5, fill: "var(--bar)" }),
        ruleX([threshold], { stroke: "var(--down)", strokeWidth: 2 }),
      ],
    },
    `P(yes) of hypothesis ${id}: ${count(above)} of ${count(rows.length)} texts from ${format(threshold)} on`,
  );
}

/** @param {Float32Array[]} columns @param {Int32Array} rows @returns {Bin[]} */
function binned(columns, rows) {
  const bins = Array.from({ length: BINS }, (_, i) => ({ from: i / BINS, to: (i + 1) / BINS, n: 0 }));
  for (const column of columns) {
    for (const row of rows) {
      const bin = bins[Math.min(Math.floor(/** @type {number} */ (column[row]) * BINS), BINS - 1)];
      if (bin) bin.n += 1;
    }
  }
  return bins;
}
