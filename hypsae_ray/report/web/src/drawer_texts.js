/** Lists of texts in the drawer: each text with its numbers, its terms marked, and why it has its label. */

import { format, h } from "./dom.js";
import { marked } from "./marked.js";
import { nameOf, partsOf, targetOf } from "./texts.js";
import { count } from "./words.js";

/** @typedef {import("./types.js").RunData} RunData */
/** @typedef {import("./types.js").Hypothesis} Hypothesis */
/** @typedef {import("./text_lists.js").TextList} TextList */

export const AT_ONCE = 5;
const MAX_TEXT = 400;

/**
 * @param {RunData} data
 * @param {Hypothesis} hypothesis
 * @param {TextList} list
 * @param {RegExp | null} pattern
 */
export function textList(data, hypothesis, { title, rows }, pattern) {
  const items = h("ol", { class: "excerpts" });
  const more = h("button", { type: "button", class: "more", click: () => show()?.focus() });
  function show() {
    const next = rows.slice(items.children.length, items.children.length + AT_ONCE);
    const added = next.map((row) => item(data, hypothesis, row, pattern));
    items.append(...added);
    const left = rows.length - items.children.length;
    more.hidden = left === 0;
    more.textContent = `more (${count(left)} left)`;
    return added[0];
  }
  show();
  const none = rows.length ? null : h("p", { class: "muted" }, "No such text.");
  return h("section", {}, h("h3", {}, title, " ", h("span", { class: "amount" }, count(rows.length))), items, none, more);
}

/** @param {RunData} data @param {Hypothesis} hypothesis @param {number} row @param {RegExp | null} pattern */
function item(data, hypothesis, row, pattern) {
  const parts = data.texts ? partsOf(data, row) : [];
  const names = parts.length > 1 ? ["first text", "second text"] : [];
  const quoted = parts.map((text, k) =>
    h("blockquote", { dir: "auto" }, names[k] && h("small", {}, names[k]), ...excerpt(text, pattern)),
  );
  const id = parts.length ? null : h("blockquote", { class: "id" }, nameOf(data, row));
  const numbers = h("p", { class: "numbers" }, numbersOf(data, hypothesis, row));
  return h("li", { tabindex: -1, "data-row": row }, ...quoted, id, numbers, ...reasons(data, hypothesis, row));
}

/** @param {RunData} data @param {Hypothesis} hypothesis @param {number} row */
function numbersOf(data, { pYes, pYesB, activation }, row) {
  const pYesOf = [pYes, ...(pYesB ? [pYesB] : [])].map((p) => format(p[row] ?? NaN)).join(" and ");
  return `${data.target} ${targetOf(data, row)} · P(yes) ${pYesOf} · activation ${format(activation[row] ?? NaN)}`;
}

/** @param {RunData} data @param {Hypothesis} hypothesis @param {number} row */
function reasons({ rowId }, hypothesis, row) {
  const mine = hypothesis.reasons.filter((one) => one.row_id === rowId?.[row]);
  return mine.map(({ reason, quote }) =>
    h("p", { class: "reason" }, reason, quote && h("q", {}, quote)),
  );
}

/** A text, cut if it is long, with a button that shows all of it. @param {string} text @param {RegExp | null} pattern */
function excerpt(text, pattern) {
  if (!text) return [h("i", {}, "(empty)")];
  const body = h("span", {}, ...marked(cut(text), pattern));
  if (text.length <= MAX_TEXT) return [body];
  const toggle = h("button", { type: "button", class: "link", "aria-expanded": "false", click: turn }, "whole text");
  function turn() {
    const isWhole = toggle.getAttribute("aria-expanded") === "false";
    body.replaceChildren(...marked(isWhole ? text : cut(text), pattern));
    toggle.setAttribute("aria-expanded", String(isWhole));
    toggle.textContent = isWhole ? "less" : "whole text";
  }
  return [body, " ", toggle];
}

/** Its beginning, which does not end between the two halves of one character. @param {string} text */
function cut(text) {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT).replace(/[\uD800-\uDBFF]$/, "")} …` : text;
}
