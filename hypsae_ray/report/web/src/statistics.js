// Prevalence and separation score of one hypothesis on some rows: hypsae_ray/stats/prevalence.py and separation.py
// in the browser, on the same sums and to the same digits. tests/browser/test_statistics.py compares the two.

import normalQuantile from "@stdlib/stats-base-dists-normal-quantile";
import tCdf from "@stdlib/stats-base-dists-t-cdf";
import tQuantile from "@stdlib/stats-base-dists-t-quantile";

/**
 * @typedef {object} Contrast two values of a label whose texts are compared
 * @property {number} yes
 * @property {number} no
 * @property {number} scale score = scale x (mean of yes - mean of no)
 */

/**
 * @typedef {object} Hypothesis the rows (n) of all texts, for one hypothesis
 * @property {Float32Array} pYes NaN where there is no label
 * @property {Float32Array} [pYesB] of the second text of each pair, where rows are pairs: a label is that of the first
 *   text minus that of the second
 * @property {number} threshold pYes from which a label is 1
 * @property {Float64Array} target
 * @property {Float64Array | null} weights positive; null: all equal
 * @property {Int32Array | null} groups codes from 0 of what belongs together; null: rows are independent
 * @property {Contrast} contrast
 */

/**
 * @typedef {object} Comparison numbers are NaN where they are not known
 * @property {number} n rows with a label
 * @property {number} nYes of these with the property; of pairs, those that differ in it
 * @property {number} prevalence weighted share of nYes, with a 95 % interval
 * @property {number} prevalenceLow
 * @property {number} prevalenceHigh
 * @property {number} score separation score, in units of the target
 * @property {number} se
 * @property {number} df degrees of freedom of its t test
 * @property {number} low 95 % interval
 * @property {number} high
 * @property {number} p two-sided
 * @property {string} test "Welch", "cluster-robust", or "" where there is none
 * @property {string} reason why there is no interval, else ""
 */

/**
 * @typedef {object} Side sums over the texts on one side, weighted, the target centred
 * @property {number} n texts
 * @property {number} tops texts whose target is the largest
 * @property {number} w weights
 * @property {number} wy
 * @property {number} wyy
 * @property {number} ww squares of weights
 * @property {number} wwy
 * @property {number} wwyy
 */

/** @typedef {{ yes: Side, no: Side, rest: Side }} Sides `rest`: pairs that do not differ */
/** @typedef {{ centre: number, top: number, binary: boolean }} Target */
/** @typedef {Record<"weightYes" | "targetYes" | "weightNo" | "targetNo" | "labelled", Float64Array>} Cells by group (G) */
/** @typedef {{ share: number, variance: number }} Share */
/** @typedef {{ test: string, se: number, df: number }} Test of the mean of yes minus the mean of no */

/** @type {Contrast} */
export const PRESENCE = { yes: 1, no: 0, scale: 1 };
/** @type {Contrast} */
export const PAIRS = { yes: 1, no: -1, scale: 0.5 };
/** Where fewer texts or groups stand in a cell, the report has an exact test, which takes too long for a browser. */
export const SMALL_CELL = 10;

const Z = normalQuantile(0.975, 0, 1);

/**
 * Compares the target of some rows between the texts with a property and those without.
 *
 * @param {Hypothesis} hypothesis
 * @param {Uint8Array | Int32Array} rows a mask (n), or positions
 * @returns {Comparison}
 */
export function compare(hypothesis, rows) {
  const chosen = rows instanceof Uint8Array ? rowsOf(rows) : rows;
  const target = describe(hypothesis.target, chosen);
  const sides = sumSides(hypothesis, chosen, target);
  const cells = hypothesis.groups && sumGroups(hypothesis, hypothesis.groups, chosen, target.centre);
  return { ...prevalence(hypothesis, sides, cells), ...separation(hypothesis, target, sides, cells) };
}

/**
 * Positions of what a mask holds; to call once where many hypotheses are compared on the same rows.
 *
 * @param {Uint8Array} mask
 * @returns {Int32Array}
 */
export function rowsOf(mask) {
  const found = new Int32Array(mask.length);
  let n = 0;
  for (let row = 0; row < mask.length; row++) if (mask[row]) found[n++] = row;
  return found.subarray(0, n);
}

/**
 * The label of a row: 0 or 1, of pairs -1, 0 or 1, NaN where there is none.
 *
 * @param {Pick<Hypothesis, "pYes" | "pYesB" | "threshold">} hypothesis
 * @param {number} row
 * @returns {number}
 */
export function labelOf({ pYes, pYesB, threshold }, row) {
  const first = cut(/** @type {number} */ (pYes[row]), threshold);
  return pYesB ? first - cut(/** @type {number} */ (pYesB[row]), threshold) : first;
}

/** @type {(pYes: number, threshold: number) => number} */
function cut(pYes, threshold) {
  return pYes >= threshold ? 1 : pYes < threshold ? 0 : NaN;
}

/**
 * @param {Float64Array} target
 * @param {Int32Array} rows
 * @returns {Target}
 */
function describe(target, rows) {
  let sum = 0;
  let low = Infinity;
  let top = -Infinity;
  for (let i = 0; i < rows.length; i++) {
    const y = /** @type {number} */ (target[/** @type {number} */ (rows[i])]);
    sum += y;
    if (y < low) low = y;
    if (y > top) top = y;
  }
  const binary = low < top && rows.every((row) => target[row] === low || target[row] === top);
  return { centre: sum / rows.length, top, binary };
}

/**
 * @param {Hypothesis} hypothesis
 * @param {Int32Array} rows
 * @param {Target} target
 * @returns {Sides}
 */
function sumSides(hypothesis, rows, { centre, top }) {
  const { target, weights, contrast } = hypothesis;
  const sides = { yes: newSide(), no: newSide(), rest: newSide() };
  for (let i = 0; i < rows.length; i++) {
    const row = /** @type {number} */ (rows[i]);
    const label = labelOf(hypothesis, row);
    if (Number.isNaN(label)) continue;
    const side = label === contrast.yes ? sides.yes : label === contrast.no ? sides.no : sides.rest;
    const y = /** @type {number} */ (target[row]);
    add(side, weights ? /** @type {number} */ (weights[row]) : 1, y - centre, y === top);
  }
  return sides;
}

/** @returns {Side} */
function newSide() {
  return { n: 0, tops: 0, w: 0, wy: 0, wyy: 0, ww: 0, wwy: 0, wwyy: 0 };
}

/** @type {(side: Side, w: number, y: number, isTop: boolean) => void} */
function add(side, w, y, isTop) {
  side.n += 1;
  if (isTop) side.tops += 1;
  side.w += w;
  side.wy += w * y;
  side.wyy += w * y * y;
  side.ww += w * w;
  side.wwy += w * w * y;
  side.wwyy += w * w * y * y;
}

/**
 * @param {Hypothesis} hypothesis
 * @param {Int32Array} groups
 * @param {Int32Array} rows
 * @param {number} centre
 * @returns {Cells}
 */
function sumGroups(hypothesis, groups, rows, centre) {
  const { target, weights, contrast } = hypothesis;
  const cells = newCells(1 + rows.reduce((most, row) => Math.max(most, /** @type {number} */ (groups[row])), -1));
  for (let i = 0; i < rows.length; i++) {
    const row = /** @type {number} */ (rows[i]);
    const label = labelOf(hypothesis, row);
    if (Number.isNaN(label)) continue;
    const group = /** @type {number} */ (groups[row]);
    const w = weights ? /** @type {number} */ (weights[row]) : 1;
    const wy = w * (/** @type {number} */ (target[row]) - centre);
    increase(cells.labelled, group, w);
    if (label === contrast.yes) {
      increase(cells.weightYes, group, w);
      increase(cells.targetYes, group, wy);
    } else if (label === contrast.no) {
      increase(cells.weightNo, group, w);
      increase(cells.targetNo, group, wy);
    }
  }
  return cells;
}

/** @type {(n: number) => Cells} */
function newCells(n) {
  const [weightYes, targetYes, weightNo, targetNo, labelled] = [0, 0, 0, 0, 0].map(() => new Float64Array(n));
  return /** @type {Cells} */ ({ weightYes, targetYes, weightNo, targetNo, labelled });
}

/** @type {(sums: Float64Array, at: number, by: number) => void} */
function increase(sums, at, by) {
  sums[at] = /** @type {number} */ (sums[at]) + by;
}

/**
 * @param {Hypothesis} hypothesis
 * @param {Sides} sides
 * @param {Cells | null} cells
 */
function prevalence({ weights, contrast }, sides, cells) {
  const [yes, no, rest] = [sides.yes, sides.no, sides.rest];
  const isPair = contrast.no !== 0;
  const n = yes.n + no.n + rest.n;
  const found = cells ? shareByGroup(cells, isPair) : shareOf(sides, isPair);
  // Where few rows of unequal weight say what the variance is, they count as fewer.
  const df = weights ? Math.min(effective(yes), effective(no)) - 1 : Infinity;
  const [prevalenceLow, prevalenceHigh] = wilson(found, n, df);
  return { n, nYes: yes.n + (isPair ? no.n : 0), prevalence: found.share, prevalenceLow, prevalenceHigh };
}

/**
 * @param {Sides} sides
 * @param {boolean} isPair
 * @returns {Share}
 */
function shareOf({ yes, no, rest }, isPair) {
  const has = yes.w + (isPair ? no.w : 0);
  const there = yes.w + no.w + rest.w;
  const hasSquared = yes.ww + (isPair ? no.ww : 0);
  return shareFrom(yes.n + no.n + rest.n, has, there, [hasSquared, hasSquared, yes.ww + no.ww + rest.ww]);
}

/**
 * @param {Cells} cells
 * @param {boolean} isPair
 * @returns {Share}
 */
function shareByGroup({ weightYes, weightNo, labelled }, isPair) {
  let [n, has, there] = [0, 0, 0];
  /** @type {[number, number, number]} */
  const products = [0, 0, 0];
  for (const [group, b] of labelled.entries()) {
    const a = /** @type {number} */ (weightYes[group]) + (isPair ? /** @type {number} */ (weightNo[group]) : 0);
    if (b > 0) n += 1;
    has += a;
    there += b;
    products[0] += a * a;
    products[1] += a * b;
    products[2] += b * b;
  }
  return shareFrom(n, has, there, products);
}

/**
 * The variance is what units add to the share less its mean, squared and summed, times n / (n - 1).
 *
 * @param {number} n units: rows, or groups
 * @param {number} has weight with the property, and `there` with a label
 * @param {number} there
 * @param {[number, number, number]} products has x has, has x there, there x there, over units
 * @returns {Share}
 */
function shareFrom(n, has, there, [aa, ab, bb]) {
  const share = has / there;
  const spread = Math.max(aa - 2 * share * ab + share ** 2 * bb, 0);
  return { share, variance: ((spread / there ** 2) * n) / (n - 1) };
}

/**
 * Wilson's interval (1927) of as many independent texts as would have this variance, of n where it is 0; of fewer by
 * the degrees of freedom of the variance (Korn and Graubard 1998).
 *
 * @param {Share} found
 * @param {number} n labels
 * @param {number} df
 * @returns {[number, number]}
 */
function wilson({ share, variance }, n, df) {
  if (!n) return [NaN, NaN];
  const independent = variance > 0 ? (share * (1 - share)) / variance : n;
  const lost = df === Infinity ? 1 : (Z / tQuantile(0.975, Math.max(df, 1))) ** 2;
  const count = (independent > 0 ? independent : n) * lost;
  const below = 1 + Z ** 2 / count;
  const middle = (share + Z ** 2 / (2 * count)) / below;
  const margin = (Z * Math.sqrt((share * (1 - share)) / count + Z ** 2 / (4 * count ** 2))) / below;
  return [Math.max(middle - margin, 0), Math.min(middle + margin, 1)];
}

/**
 * How many texts of equal weight the texts of a side count as (Kish 1965).
 *
 * @type {(side: Side) => number}
 */
function effective({ w, ww }) {
  return w ** 2 / Math.max(ww, 1e-300);
}

/**
 * @param {Hypothesis} hypothesis
 * @param {Target} target
 * @param {Sides} sides
 * @param {Cells | null} cells
 */
function separation({ contrast }, target, { yes, no }, cells) {
  const { scale } = contrast;
  const score = scale * (yes.wy / yes.w - no.wy / no.w);
  const found = cells ? clustered(yes, no, cells) : welch(yes, no);
  const reason = whyNot(contrast, target, yes, no, cells, found);
  if (reason) return { score, se: NaN, df: NaN, low: NaN, high: NaN, p: NaN, test: "", reason };
  const se = scale * found.se;
  const margin = tQuantile(0.975, found.df) * se;
  const p = 2 * tCdf(-Math.abs(score) / se, found.df);
  return { score, se, df: found.df, low: score - margin, high: score + margin, p, test: found.test, reason };
}

/**
 * @param {Contrast} contrast
 * @param {Target} target
 * @param {Side} yes
 * @param {Side} no
 * @param {Cells | null} cells
 * @param {Test} found
 * @returns {string}
 */
function whyNot(contrast, target, yes, no, cells, found) {
  const texts = contrast.no ? "pairs" : "texts";
  if (!yes.n || !no.n) return oneSided(contrast, yes.n, no.n);
  if (cells && Number.isNaN(found.se)) return "all texts of one side are of one group";
  if (!(variance(yes) > 0 || variance(no) > 0)) return "the target does not vary on either side";
  const fewest = cells ? Math.min(holding(cells.weightYes), holding(cells.weightNo)) : Math.min(yes.n, no.n);
  if (fewest < SMALL_CELL) return `one side has fewer than ${SMALL_CELL} ${cells ? "groups" : texts}`;
  const smallest = Math.min(yes.tops, yes.n - yes.tops, no.tops, no.n - no.tops);
  if (!cells && target.binary && smallest < SMALL_CELL) {
    return `on one side fewer than ${SMALL_CELL} ${texts} have one of the two values of the target`;
  }
  return "";
}

/** @type {(contrast: Contrast, nYes: number, nNo: number) => string} */
function oneSided({ no }, nYes, nNo) {
  if (nYes + nNo === 0) return no ? "no pair of texts differs in it" : "no text has a usable label";
  if (no) return "it is always the same text of a pair that has it: nothing to compare with";
  return nYes ? "every labelled text has it: nothing to compare with" : "no labelled text has it";
}

/** @type {(weights: Float64Array) => number} */
function holding(weights) {
  return weights.reduce((n, weight) => n + Number(weight > 0), 0);
}

/**
 * Welch's test (1947); with weights, texts count as many as Kish's effective sample size.
 *
 * @param {Side} yes
 * @param {Side} no
 * @returns {Test}
 */
function welch(yes, no) {
  const [a, b] = [variance(yes), variance(no)];
  const below = a ** 2 / Math.max(effective(yes) - 1, 1e-9) + b ** 2 / Math.max(effective(no) - 1, 1e-9);
  return { test: "Welch", se: Math.sqrt(a + b), df: (a + b) ** 2 / below };
}

/**
 * Squared standard error of the mean of a side, texts taken as independent.
 *
 * @type {(side: Side) => number}
 */
function variance({ n, w, wy, ww, wwy, wwyy }) {
  const mean = wy / w;
  const squares = wwyy - 2 * mean * wwy + mean ** 2 * ww;
  // Sums of squares leave about 1e-16 of their own size where nothing varies.
  return squares <= 1e-13 * wwyy ? 0 : ((squares / w ** 2) * n) / (n - 1);
}

/**
 * Variance of the target of a side around its mean.
 *
 * @type {(side: Side) => number}
 */
function spread({ n, w, wy, wyy }) {
  return (Math.max(wyy / w - (wy / w) ** 2, 0) * n) / (n - 1);
}

/**
 * CR2 with the degrees of freedom of Bell and McCaffrey (2002), in the closed form that two means have:
 * `_clustered` of separation.py, where the symbols are explained.
 *
 * @param {Side} yes
 * @param {Side} no
 * @param {Cells} cells
 * @returns {Test}
 */
function clustered(yes, no, cells) {
  const [a, b] = [leverage(yes, cells.weightYes), leverage(no, cells.weightNo)];
  if (!a || !b) return { test: "", se: NaN, df: NaN };
  let [squares, own, ownSquared, aa, ab, bb, diagonal] = [0, 0, 0, 0, 0, 0, 0];
  for (let group = 0; group < cells.labelled.length; group++) {
    const [u, v] = [a.root(group), b.root(group)];
    const mine = a.own(group) + b.own(group);
    squares += (a.score(group, cells.targetYes) - b.score(group, cells.targetNo)) ** 2;
    own += mine;
    ownSquared += mine ** 2;
    aa += u * u;
    ab += u * v;
    bb += v * v;
    diagonal += (u * u + v * v) ** 2;
  }
  const below = ownSquared + aa ** 2 + 2 * ab ** 2 + bb ** 2 - diagonal;
  return { test: "cluster-robust", se: Math.sqrt(squares), df: own ** 2 / below };
}

/**
 * What a group adds on one side: to the mean, to the trace of P, and to the root of its other entries. Null where all
 * texts of the side are of one group.
 *
 * @param {Side} side
 * @param {Float64Array} weights by group
 */
function leverage(side, weights) {
  const total = side.w;
  if (!(total > 0) || weights.some((weight) => weight > (1 - 1e-12) * total)) return null;
  const unit = (spread(side) * side.ww) / total ** 4;
  const mean = side.wy / total;
  /** @param {number} group */
  const weight = (group) => /** @type {number} */ (weights[group]);
  /** @param {number} group */
  const inflate = (group) => 1 / Math.sqrt(1 - weight(group) / total);
  return {
    /** @type {(group: number, target: Float64Array) => number} */
    score: (group, target) =>
      (inflate(group) * (/** @type {number} */ (target[group]) - mean * weight(group))) / total,
    /** @type {(group: number) => number} */
    own: (group) => unit * weight(group) * total,
    /** @type {(group: number) => number} */
    root: (group) => Math.sqrt(unit) * weight(group) * inflate(group),
  };
}
