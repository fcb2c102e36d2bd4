/** Which texts show a hypothesis, and where its labels and its neuron agree. */

import { labelOf } from "./labels.js";

/** @typedef {import("./types.js").RunData} RunData */
/** @typedef {import("./types.js").Hypothesis} Hypothesis */
/** @typedef {{title: string, rows: number[]}} TextList */
/** @typedef {{yesFires: number, yesSilent: number, noFires: number, noSilent: number, none: number}} Agreement */
/** @typedef {(row: number) => number} Measure */

const OF_TEXTS = [
  "Texts that have it",
  "Texts that do not have it, but are close",
  "The neuron fires, the label says no",
  "The label says yes, the neuron is silent",
];
const OF_PAIRS = [
  "Pairs that differ in it",
  "Pairs that do not differ in it, but nearly",
  "The neuron tells the two apart, the label does not",
  "The label tells the two apart, the neuron does not",
];

/**
 * Four lists of positions, the most telling first; of equal ones the first. Pairs have a property as far as their
 * texts differ in it.
 *
 * @param {RunData} data
 * @param {Hypothesis} hypothesis
 * @param {number} threshold
 * @returns {TextList[]}
 */
export function textLists(data, hypothesis, threshold) {
  const { strength, likely } = measures(hypothesis);
  /** @type {[number[], number[]]} */
  const sides = [[], []];
  for (let i = 0; i < data.n; i++) {
    const label = labelOf(hypothesis, i, threshold);
    if (!Number.isNaN(label)) sides[label === 0 ? 1 : 0].push(i);
  }
  const [yes, no] = sides;
  const rows = [
    sorted(yes, strength, likely),
    sorted(no.filter((i) => likely(i) > 0 || strength(i) > 0), likely, strength),
    sorted(no.filter((i) => strength(i) > 0), strength, likely),
    sorted(yes.filter((i) => strength(i) === 0), likely, strength),
  ];
  const titles = hypothesis.pYesB ? OF_PAIRS : OF_TEXTS;
  return rows.map((list, k) => ({ title: titles[k] ?? "", rows: list }));
}

/** @param {Hypothesis} hypothesis @returns {{strength: Measure, likely: Measure}} */
function measures({ pYes, pYesB, activation }) {
  /** @param {Float32Array} values @param {number} i */
  const at = (values, i) => /** @type {number} */ (values[i]);
  if (!pYesB) return { strength: (i) => Math.max(at(activation, i), 0), likely: (i) => at(pYes, i) };
  return { strength: (i) => Math.abs(at(activation, i)), likely: (i) => Math.abs(at(pYes, i) - at(pYesB, i)) };
}

/** @param {number[]} rows @param {Measure} first @param {Measure} second */
function sorted(rows, first, second) {
  return [...rows].sort((a, b) => first(b) - first(a) || second(b) - second(a) || a - b);
}

/**
 * How often the neuron fires where the label says yes, and where it says no.
 *
 * @param {RunData} data
 * @param {Hypothesis} hypothesis
 * @param {number} threshold
 * @returns {Agreement}
 */
export function agreement(data, hypothesis, threshold) {
  const { strength } = measures(hypothesis);
  const found = { yesFires: 0, yesSilent: 0, noFires: 0, noSilent: 0, none: 0 };
  for (let i = 0; i < data.n; i++) {
    const label = labelOf(hypothesis, i, threshold);
    const fires = strength(i) > 0;
    if (Number.isNaN(label)) found.none += 1;
    else if (label === 0) found[fires ? "noFires" : "noSilent"] += 1;
    else found[fires ? "yesFires" : "yesSilent"] += 1;
  }
  return found;
}
