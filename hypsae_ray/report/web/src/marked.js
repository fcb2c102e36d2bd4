/** A text, cut, with what the search finds in it marked. */

import { h } from "./dom.js";

/** @typedef {string | HTMLElement} Piece */

const BEFORE = 60;

/**
 * The pieces of a text, matches as <mark>.
 * @param {string} text @param {RegExp | null} pattern @returns {Piece[]}
 */
export function marked(text, pattern) {
  if (!pattern) return [text];
  /** @type {Piece[]} */
  const pieces = [];
  let at = 0;
  for (const { 0: match, index } of text.matchAll(new RegExp(pattern.source, `g${pattern.flags.replace("g", "")}`))) {
    if (!match) continue;
    pieces.push(text.slice(at, index), h("mark", {}, match));
    at = index + match.length;
  }
  return [...pieces, text.slice(at)];
}

/**
 * So many characters of a text: its beginning, or where it is further on what the search finds.
 * @param {string} text @param {number} length @param {RegExp | null} pattern
 */
export function excerpt(text, length, pattern) {
  if (text.length <= length) return text;
  const match = pattern?.exec(text);
  const start = match && match.index + match[0].length > length ? Math.max(0, Math.min(match.index - BEFORE, text.length - length)) : 0;
  const end = start + length;
  return `${start ? "…" : ""}${text.slice(start, end).trim()}${end < text.length ? "…" : ""}`;
}
