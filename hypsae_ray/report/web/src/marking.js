/** Where terms of a neuron stand in texts. */

const LETTER = "[\\p{L}\\p{N}_]";
const GAP = "[^\\p{L}\\p{N}_]+";
/** May lie between the words of a phrase: terms are found in texts without stop words, of which these are the usual. */
const STOP_WORDS =
  "a|about|all|also|an|and|are|as|at|back|be|been|but|by|for|from|had|has|have|he|her|i|in|is|it|its|me|more|most|" +
  "my|no|not|of|on|or|our|she|so|some|than|that|the|their|them|there|they|this|to|too|up|us|very|was|we|were|with|you";

/**
 * A pattern of terms as whole words, whatever their case; null where there are none.
 * @param {string[]} terms
 * @returns {RegExp | null}
 */
export function termPattern(terms) {
  const between = `${GAP}(?:(?:${STOP_WORDS})${GAP})*`;
  const written = terms.filter(Boolean).map((term) => term.split(/\s+/u).map(escaped).join(between));
  written.sort((a, b) => b.length - a.length);
  return written.length ? new RegExp(`(?<!${LETTER})(?:${written.join("|")})(?!${LETTER})`, "giu") : null;
}

/** @param {string} word */
function escaped(word) {
  return word.replace(/[.*+?^${}()|[\]\\/]/gu, "\\$&");
}
