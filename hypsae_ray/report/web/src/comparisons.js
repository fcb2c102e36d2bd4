/** Comparisons of hypotheses on some texts, computed anew only where a threshold, the texts or the class changed. */

import { compare, PAIRS, PRESENCE } from "./statistics.js";

/** @typedef {import("./types.js").RunData} RunData */
/** @typedef {import("./types.js").Hypothesis} Hypothesis */
/** @typedef {import("./statistics.js").Comparison} Comparison */
/** @typedef {{threshold: number, rows: Int32Array, code: number, found: Comparison}} Kept */

export class Comparisons {
  /** @param {RunData} data */
  constructor(data) {
    this.data = data;
    /** @type {Map<number, Kept>} */
    this.kept = new Map();
    /** @type {Map<number, Float64Array>} */
    this.targets = new Map();
  }

  /**
   * @param {Hypothesis} hypothesis
   * @param {number} threshold
   * @param {Int32Array} rows the same array for as long as the texts are the same
   * @param {number} code of the class, where there are several
   */
  of(hypothesis, threshold, rows, code) {
    const kept = this.kept.get(hypothesis.id);
    if (kept && kept.threshold === threshold && kept.rows === rows && kept.code === code) return kept.found;
    const { weights, groups } = this.data;
    const { pYes, pYesB } = hypothesis;
    const contrast = pYesB ? PAIRS : PRESENCE;
    const of = { pYes, threshold, target: this.target(code), weights, groups, contrast };
    const found = compare(pYesB ? { ...of, pYesB } : of, rows);
    this.kept.set(hypothesis.id, { threshold, rows, code, found });
    return found;
  }

  /** The target, or of classes whether it is the one. @param {number} code @returns {Float64Array} */
  target(code) {
    const { classes, values } = this.data;
    if (!classes) return values;
    const known = this.targets.get(code) ?? values.map((value) => Number(value === code));
    this.targets.set(code, known);
    return known;
  }
}
