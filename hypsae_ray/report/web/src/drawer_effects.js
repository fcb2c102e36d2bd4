/** What the run found of a hypothesis, alone and with the others, drawn and in words; a block for each class. */

import { dot, ruleX, ruleY } from "@observablehq/plot";
import { format, h, percent, signed } from "./dom.js";
import { figure } from "./figure.js";
import { numberOf, pValue, span, textOf } from "./words.js";

/** @typedef {import("./types.js").RunData} RunData */
/** @typedef {import("./types.js").Result} Result */
/** @typedef {{name: string, at: number, low: number, high: number}} Effect */

/** @param {RunData} data @param {Result[]} results */
export function effectBlocks(data, results) {
  return results.map((result) => {
    const name = textOf(result, "target_class");
    const note = textOf(result, "note");
    return h(
      "section",
      { class: "effects" },
      name && h("h3", { class: "class" }, name),
      intervals(data, result),
      h("ul", {}, ...lines(data, result).map((line) => h("li", {}, line))),
      note && h("p", { class: "note" }, note),
    );
  });
}

/** @param {RunData} data @param {Result} result */
function lines(data, result) {
  return [alone(data, result), jointly(data, result), ...quality(data, result)].filter((line) => line !== false);
}

/** @param {RunData} data @param {Result} result */
function intervals(data, result) {
  const rows = [effect("alone", result, "separation", "separation_score"), joint(result)];
  const known = rows.filter((row) => [row.at, row.low, row.high].every(Number.isFinite));
  if (!known.length) return null;
  const said = known.map(({ name, at, low, high }) => `${name} ${signed(at)}, 95 % interval ${span(low, high)}`);
  return figure(
    {
      width: 480,
      height: 96,
      marginLeft: 62,
      marginTop: 8,
      marginBottom: 34,
      marginRight: 16,
      x: { label: `difference in ${unitOf(data)}`, nice: true, ticks: 5, tickSize: 4 },
      y: { label: null, domain: rows.map((row) => row.name), tickSize: 0 },
      marks: [
        ruleX([0], { stroke: "var(--soft)" }),
        ruleY(known, { y: "name", x1: "low", x2: "high", stroke: colour, strokeWidth: 3 }),
        dot(known, { y: "name", x: "at", fill: colour, r: 5 }),
      ],
    },
    said.join("; "),
  );
}

/** @param {Effect} effect */
function colour({ at }) {
  return at > 0 ? "var(--up)" : "var(--down)";
}

/** @param {string} name @param {Result} result @param {string} prefix @param {string} column */
function effect(name, result, prefix, column) {
  const at = numberOf(result, column);
  return { name, at, low: numberOf(result, `${prefix}_ci_low`), high: numberOf(result, `${prefix}_ci_high`) };
}

/** The effect in the joint model in units of the target, as that alone is. @param {Result} result */
function joint(result) {
  return isAveraged(result)
    ? effect("jointly", result, "average_effect", "average_effect")
    : effect("jointly", result, "regression", "regression_coef");
}

/** Whether the coefficient is in other units than the target: log-odds, or a log. @param {Result} result */
function isAveraged(result) {
  return Number.isFinite(numberOf(result, "average_effect"));
}

/** @param {RunData} data */
function unitOf({ task, target, classes }) {
  return classes ? `the share of the class` : task === "count" ? `the mean of ${target}` : target;
}

/** @param {RunData} data @param {Result} result */
function alone(data, result) {
  const written = estimate(result, "separation", "separation_score");
  if (!written) return "Alone: no estimate.";
  const of = data.classes ? "share of the class" : `mean ${data.target}`;
  const meaning =
    data.task === "pairwise"
      ? `half the difference in the ${of} between pairs of which only the first text has it and those of which ` +
        "only the second has it"
      : `the ${of} of the texts that have it minus that of the others`;
  return `Alone: ${written}: ${meaning}.`;
}

/** @param {RunData} data @param {Result} result */
function jointly({ task, target }, result) {
  const written = estimate(result, "regression", "regression_coef");
  if (!written) return "With all hypotheses in one model: no estimate.";
  if (!isAveraged(result)) return `With all hypotheses in one model: ${written}.`;
  const { at, low, high } = joint(result);
  const average = `${signed(at)}${span(low, high) && ` (${span(low, high)})`}`;
  const [scale, mean] = task === "count" ? ["log of the mean", "mean"] : ["log-odds", "probability"];
  return `With all hypotheses in one model: ${written}, in ${scale} of ${target}; on average ${average} in its ${mean}.`;
}

/** Estimate, interval and adjusted p; "" where there is none. @param {Result} result @param {string} prefix @param {string} column */
function estimate(result, prefix, column) {
  const { at, low, high } = effect("", result, prefix, column);
  if (!Number.isFinite(at)) return "";
  const p = numberOf(result, `${prefix}_pval_adj`);
  const inside = [span(low, high) && `95 % interval ${span(low, high)}`, Number.isFinite(p) && pEquals(p)];
  const known = inside.filter(Boolean);
  return `${signed(at)}${known.length ? ` (${known.join(", ")})` : ""}`;
}

/** @param {number} p */
function pEquals(p) {
  const written = pValue(p);
  return `adjusted p ${written.startsWith("<") ? written : `= ${written}`}`;
}

/** @param {RunData} data @param {Result} result */
function quality({ task }, result) {
  const [share, f1, stability] = ["feature_prevalence", "f1_fidelity_score", "stability"].map((name) => numberOf(result, name));
  const [low, high] = [numberOf(result, "f1_ci_low"), numberOf(result, "f1_ci_high")];
  const of = task === "pairwise" ? "of the pairs differ in it" : "of the texts have it";
  return [
    isKnown(share) && `${percent(share)} ${of}.`,
    isKnown(f1) &&
      `Fidelity F1 ${format(f1)}${isKnown(low) && isKnown(high) ? ` (${format(low)} to ${format(high)})` : ""}: ` +
        "how well the sentence tells the texts that the neuron fires on from those it is silent on.",
    isKnown(stability) && `Stability ${format(stability)}: how well the neuron is found again from other seeds.`,
  ];
}

/** @param {number | undefined} value @returns {value is number} */
function isKnown(value) {
  return value !== undefined && Number.isFinite(value);
}
