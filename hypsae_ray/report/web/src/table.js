/** The texts that are meant, and the labels of each. */

import { csvOf } from "./csv.js";
import { byId, h } from "./dom.js";
import { save } from "./save.js";
import { columnsOf, textRow } from "./text_row.js";
import { counted, unitOf } from "./texts.js";

/** @typedef {import("./types.js").App} App */

const AT_ONCE = 50;
const SHOW = "show-text";

/** Show one text in the table, selected or not. @param {number} i  its position */
export function showText(i) {
  byId("selected").dispatchEvent(new CustomEvent(SHOW, { detail: i }));
}

/** @param {App} app */
export function mountTable(app) {
  const heading = h("h3", { "aria-live": "polite" });
  const table = new TextTable(app);
  const csv = h("button", { type: "button", click: () => saveSelection(app) }, "Selection as CSV");
  const name = `Labels of each ${unitOf(app.data, 1)}`;
  const box = h("div", { class: "scroll", role: "region", "aria-label": name, tabindex: 0 }, table.element);
  const into = byId("selected");
  into.append(h("div", { class: "table-head" }, heading, csv), h("p", { class: "muted" }, ...keyOf(app)), box, table.more);
  into.addEventListener(SHOW, (event) => table.pin(/** @type {CustomEvent<number>} */ (event).detail));
  app.state.on(["search", "lasso", "thresholds"], () => {
    const rows = app.selection.rows();
    heading.textContent = headingOf(app, rows.length);
    csv.disabled = !rows.length;
    table.fill(rows);
  });
}

/** @param {App} app @param {number} count */
function headingOf({ data, selection }, count) {
  const of = selection.isEmpty ? `All ${counted(data, data.n)}` : `${count.toLocaleString("en")} of ${counted(data, data.n)}`;
  return data.nAll > data.n ? `${of} that this page holds, of ${data.nAll.toLocaleString("en")}` : of;
}

/** What the squares mean. @param {App} app @returns {(Node | string)[]} */
function keyOf({ data }) {
  const square = (/** @type {string} */ kind) => h("span", { class: `square ${kind}` });
  const pairs = data.hypotheses.some((one) => one.pYesB);
  const kinds = pairs
    ? [square("first"), " the first text only, ", square("second"), " the second only, ", square("yes"), " both, ", square("no"), " neither, "]
    : [square("yes"), " yes, ", square("no"), " no, "];
  return ["Labels: ", ...kinds, square("unknown"), " none. The number of a hypothesis opens it."];
}

/** @param {App} app */
function saveSelection(app) {
  save(new Blob([csvOf(app)], { type: "text/csv;charset=utf-8" }), "selection.csv");
}

class TextTable {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {Int32Array} */
    this.rows = new Int32Array();
    this.shown = 0;
    this.pinned = h("tbody", { class: "pinned" });
    this.body = h("tbody");
    this.element = h("table", { class: "texts" }, headOf(app), this.pinned, this.body);
    this.more = h("button", { type: "button", class: "more", click: () => this.add(true) });
  }

  /** @param {Int32Array} rows  positions of texts */
  fill(rows) {
    this.rows = rows;
    this.shown = 0;
    this.body.replaceChildren();
    this.pinned.replaceChildren();
    this.add(false);
  }

  /** Add the next rows. @param {boolean} focus  whether to go to the first of them */
  add(focus) {
    const rows = [...this.rows.slice(this.shown, this.shown + AT_ONCE)].map(this.rowMaker());
    this.body.append(...rows);
    this.shown += rows.length;
    const left = this.rows.length - this.shown;
    this.more.hidden = left === 0;
    this.more.textContent = `${Math.min(left, AT_ONCE)} more, ${left.toLocaleString("en")} are left`;
    if (focus && rows[0]) goTo(rows[0]);
  }

  rowMaker() {
    const { app } = this;
    const columns = columnsOf(app);
    const { search } = app.state.view;
    const pattern = search ? app.selection.pattern(search) : null;
    return (/** @type {number} */ i) => textRow(app, i, columns, pattern);
  }

  /** Put one text on top of the others and go there. @param {number} i */
  pin(i) {
    const row = this.rowMaker()(i);
    this.pinned.replaceChildren(row);
    row.querySelector("button")?.click();
    goTo(row);
  }
}

/** @param {HTMLElement} row */
function goTo(row) {
  row.tabIndex = -1;
  row.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

/** @param {App} app */
function headOf({ data, state }) {
  const button = (/** @type {import("./types.js").Hypothesis} */ { id, sentence }) =>
    h("button", {
      type: "button", class: "link", title: sentence, "aria-label": `#${id}: ${sentence || "no sentence"}`,
      click: () => state.set({ open: id }),
    }, id);
  const cells = data.hypotheses.map((one) => h("th", { scope: "col", class: "label" }, button(one)));
  const [first = ""] = unitOf(data, 1);
  const target = h("th", { scope: "col", class: data.classes ? "" : "num" }, data.target);
  return h("thead", {}, h("tr", {}, h("th", { scope: "col" }, first.toUpperCase() + unitOf(data, 1).slice(1)), target, ...cells));
}
