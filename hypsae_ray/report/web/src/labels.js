/** Labels of texts: yes where P(yes) reaches the threshold, which the reader may have changed. */

/** @typedef {import("./types.js").Hypothesis} Hypothesis */

/**
 * The label of a text, or of a pair that of its first text less that of its second.
 * @param {Hypothesis} hypothesis
 * @param {number} i  position of the text
 * @param {number} [threshold]
 * @returns {number} 1 yes, 0 no, -1 the second text of a pair only, NaN where there is no label
 */
export function labelOf(hypothesis, i, threshold = hypothesis.threshold) {
  const { pYes, pYesB } = hypothesis;
  const label = toLabel(pYes[i], threshold);
  return pYesB ? label - toLabel(pYesB[i], threshold) : label;
}

/** @param {number | undefined} pYes @param {number} threshold */
function toLabel(pYes, threshold) {
  return pYes === undefined || Number.isNaN(pYes) ? NaN : Number(pYes >= threshold);
}

/**
 * The threshold of a hypothesis: that which the reader has set, or its own.
 * @param {Hypothesis} hypothesis
 * @param {string} thresholds  as in the view, "3=0.7,5=0.2": what is not a probability counts for nothing
 */
export function thresholdOf(hypothesis, thresholds) {
  for (const change of thresholds.split(",")) {
    const [id, written] = change.split("=");
    const value = written ? Number(written) : NaN;
    if (id === String(hypothesis.id) && value >= 0 && value <= 1) return value;
  }
  return hypothesis.threshold;
}
