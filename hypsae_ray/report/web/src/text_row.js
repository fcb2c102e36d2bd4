/** A row of the table of texts: the text, its target, and one cell for each hypothesis. */

import { format, h } from "./dom.js";
import { labelOf, thresholdOf } from "./labels.js";
import { excerpt, marked } from "./marked.js";
import { nameOf, partsOf, targetOf } from "./texts.js";

/**
 * @typedef {import("./types.js").App} App
 * @typedef {import("./types.js").Hypothesis} Hypothesis
 *
 * @typedef {object} Column
 * @property {Hypothesis} hypothesis
 * @property {number} threshold
 */

const CUT = 240;

/** @param {App} app @returns {Column[]} */
export function columnsOf({ data, state }) {
  return data.hypotheses.map((hypothesis) => ({ hypothesis, threshold: thresholdOf(hypothesis, state.view.thresholds) }));
}

/** @param {App} app @param {number} i @param {Column[]} columns @param {RegExp | null} pattern */
export function textRow({ data }, i, columns, pattern) {
  return h(
    "tr",
    { "data-text": i },
    textCell(data, i, pattern),
    h("td", { class: data.classes ? "" : "num" }, targetOf(data, i)),
    ...columns.map((column) => labelCell(column, i)),
  );
}

/** @param {import("./types.js").RunData} data @param {number} i @param {RegExp | null} pattern */
function textCell(data, i, pattern) {
  const parts = data.texts ? partsOf(data, i) : [nameOf(data, i)];
  const shown = parts.map(() => h("p", { dir: "auto" }));
  const fill = (/** @type {boolean} */ whole) => {
    shown.forEach((paragraph, at) => {
      const part = parts[at] ?? "";
      paragraph.replaceChildren(...(part ? marked(whole ? part : excerpt(part, CUT, pattern), pattern) : [h("i", {}, "(empty)")]));
    });
  };
  fill(false);
  const isCut = parts.some((part) => part.length > CUT);
  return h("td", { class: "text" }, ...shown, isCut && wholeButton(fill));
}

/** @param {(whole: boolean) => void} fill */
function wholeButton(fill) {
  const button = h("button", { type: "button", class: "link", "aria-expanded": "false", click: toggle }, "whole text");
  function toggle() {
    const whole = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(whole));
    button.textContent = whole ? "less" : "whole text";
    fill(whole);
  }
  return button;
}

/** @param {Column} column @param {number} i */
function labelCell({ hypothesis, threshold }, i) {
  const { kind, words } = hypothesis.pYesB ? pairLabel(hypothesis, i, threshold) : textLabel(hypothesis, i, threshold);
  return h("td", { class: "label", title: probabilities(hypothesis, i) }, h("span", { class: `square ${kind}` }), h("span", { class: "only-heard" }, words));
}

/** @param {Hypothesis} hypothesis @param {number} i @param {number} threshold */
function textLabel(hypothesis, i, threshold) {
  const label = labelOf(hypothesis, i, threshold);
  if (Number.isNaN(label)) return { kind: "unknown", words: "no label" };
  return label === 1 ? { kind: "yes", words: "yes" } : { kind: "no", words: "no" };
}

/** @param {Hypothesis} hypothesis @param {number} i @param {number} threshold */
function pairLabel(hypothesis, i, threshold) {
  const difference = labelOf(hypothesis, i, threshold);
  if (Number.isNaN(difference)) return { kind: "unknown", words: "no label" };
  if (difference > 0) return { kind: "first", words: "the first text only" };
  if (difference < 0) return { kind: "second", words: "the second text only" };
  return (hypothesis.pYes[i] ?? NaN) >= threshold ? { kind: "yes", words: "both" } : { kind: "no", words: "neither" };
}

/** @param {Hypothesis} hypothesis @param {number} i */
function probabilities({ id, pYes, pYesB }, i) {
  const second = pYesB ? `, second text ${format(pYesB[i] ?? NaN)}` : "";
  return `#${id}: P(yes) ${format(pYes[i] ?? NaN)}${second}`;
}
