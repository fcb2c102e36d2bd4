/** Which colour each dot of the map has, and the legend that says what it means. Colours are variables of the style. */

import { labelOf, thresholdOf } from "./labels.js";
import { numberOf } from "./texts.js";

/**
 * @typedef {import("./types.js").RunData} RunData
 * @typedef {import("./types.js").Hypothesis} Hypothesis
 *
 * @typedef {object} Paint
 * @property {string} from  a CSS variable
 * @property {string} [to]  another one, mixed in
 * @property {number} [share]  of `to`
 * @property {boolean} [hollow]
 *
 * @typedef {object} Tones
 * @property {string} title
 * @property {Uint8Array} tone  (n,) positions in `paints`
 * @property {Paint[]} paints
 * @property {string[]} stops  variables of a ramp from low to high; none where the colours are classes
 * @property {string[]} names  of a ramp its low, middle and high value; of classes one for each paint
 */

const STEPS = 20;
const CLASSES = 8;
const NO_VALUE = { from: "--soft", hollow: true };

/**
 * @param {RunData} data
 * @param {string} colour  as in the view: target, label:3, activation:3
 * @param {string} thresholds  as in the view
 * @returns {Tones}
 */
export function tonesOf(data, colour, thresholds) {
  const [kind, id] = colour.split(":");
  const hypothesis = data.hypotheses.find((one) => String(one.id) === id);
  if (hypothesis && kind === "label") return labelTones(data.n, hypothesis, thresholdOf(hypothesis, thresholds));
  if (hypothesis && kind === "activation") return activationTones(hypothesis);
  if (data.classes || data.task === "classification") return classTones(data);
  return ramp(data.target, data.values, middleOf(data.values, data.task === "pairwise"));
}

/** @param {number} n @param {Hypothesis} hypothesis @param {number} threshold @returns {Tones} */
function labelTones(n, hypothesis, threshold) {
  const pairs = hypothesis.pYesB !== null;
  const tone = new Uint8Array(n);
  for (let i = 0; i < n; i++) {
    const label = labelOf(hypothesis, i, threshold);
    tone[i] = Number.isNaN(label) ? 3 : 1 - label;
  }
  const names = pairs ? ["the first text only", "both or neither", "the second text only"] : ["yes", "no"];
  const paints = [{ from: "--up" }, { from: "--bar" }, { from: "--down" }, NO_VALUE];
  return { title: `Label of ${titleOf(hypothesis)}`, tone, paints, stops: [], names: withNone(names, tone, 3) };
}

/** Names of the paints; "" for those that stand for nothing. @param {string[]} names @param {Uint8Array} tone @param {number} none */
function withNone(names, tone, none) {
  return Array.from({ length: none + 1 }, (_, i) => (i < none ? (names[i] ?? "") : tone.includes(none) ? "none" : ""));
}

/** @param {Hypothesis} hypothesis @returns {Tones} */
function activationTones(hypothesis) {
  const { low, high } = extent(hypothesis.activation);
  const title = `Activation of neuron ${hypothesis.neuron}, of ${titleOf(hypothesis)}`;
  if (low < 0) return ramp(title, hypothesis.activation, [-Math.max(-low, high), 0, Math.max(-low, high)]);
  return ramp(title, hypothesis.activation, [0, high / 2, high], ["--bar", "--up"]);
}

/** @param {Hypothesis} hypothesis */
export function titleOf(hypothesis) {
  return `#${hypothesis.id} ${hypothesis.sentence || "(no sentence)"}`;
}

/**
 * Colours of numbers, even on either side of the middle.
 * @param {string} title @param {ArrayLike<number>} values
 * @param {[number, number, number]} ends  low, middle and high; what lies beyond has the colour of the end
 * @param {string[]} [stops]
 * @returns {Tones}
 */
function ramp(title, values, ends, stops = ["--down", "--bar", "--up"]) {
  const [low, middle, high] = ends;
  const tone = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? NaN;
    const part = value < middle ? (value - low) / (middle - low) / 2 : 0.5 + (value - middle) / (high - middle || 1) / 2;
    tone[i] = Number.isNaN(value) ? STEPS + 1 : Math.round(STEPS * Math.min(1, Math.max(0, part)));
  }
  const paints = [...Array.from({ length: STEPS + 1 }, (_, step) => between(stops, step / STEPS)), NO_VALUE];
  return { title, tone, paints, stops, names: ends.map(numberOf) };
}

/** @param {string[]} stops @param {number} part  from 0 to 1 @returns {Paint} */
function between(stops, part) {
  const at = part * (stops.length - 1);
  const first = Math.min(Math.floor(at), stops.length - 2);
  return { from: String(stops[first]), to: stops[first + 1], share: at - first };
}

/**
 * Low, middle and high of a target: few extreme values do not take the colours of all others.
 * @param {Float64Array} values @param {boolean} pairs  0 is then the middle of differences
 * @returns {[number, number, number]}
 */
function middleOf(values, pairs) {
  const sorted = values.filter(Number.isFinite).sort();
  const at = (/** @type {number} */ share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
  const mean = sorted.reduce((sum, value) => sum + value, 0) / (sorted.length || 1);
  const [low, high] = [at(0.02), at(0.98)];
  const far = Math.max(Math.abs(low), Math.abs(high));
  if (pairs && low < 0) return [-far, 0, far];
  return low < mean && mean < high ? [low, mean, high] : [at(0), mean, at(1)];
}

/** @param {ArrayLike<number>} values */
function extent(values) {
  let [low, high] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? NaN;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

/** The most frequent classes each have a colour; the others share one. @param {RunData} data @returns {Tones} */
function classTones(data) {
  const { values, classes } = data;
  /** @type {Map<number, number>} */
  const counts = new Map();
  for (const value of values) if (!Number.isNaN(value)) counts.set(value, (counts.get(value) ?? 0) + 1);
  const all = [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0));
  const own = all.slice(0, CLASSES).sort((a, b) => a - b);
  const place = new Map(own.map((value, i) => [value, i]));
  const tone = Uint8Array.from(values, (value) => place.get(value) ?? (Number.isNaN(value) ? own.length + 1 : own.length));
  const names = own.map((value) => classes?.[value] ?? numberOf(value));
  return {
    title: data.target,
    tone,
    paints: [...own.map((_, i) => ({ from: `--class-${own.length === 2 ? 2 - i : i + 1}` })), { from: "--bar" }, NO_VALUE],
    stops: [],
    names: [...names, all.length > own.length ? "other classes" : "", tone.includes(own.length + 1) ? "none" : ""],
  };
}
