/** The rows of a hypothesis in What if: its threshold, what it gives, and how P(yes) is spread. */

import { format, h, percent, signed } from "./dom.js";
import { histogram } from "./histogram.js";
import { strip } from "./strip.js";
import { isGraded, withThreshold } from "./thresholds.js";
import { count, pValue, short, span } from "./words.js";

/** @typedef {import("./types.js").Hypothesis} Hypothesis */
/** @typedef {import("./state.js").State} State */
/** @typedef {import("./statistics.js").Comparison} Comparison */
/** @typedef {import("./strip.js").Interval} Interval */
/** @typedef {import("./strip.js").Scale} Scale */
/** @typedef {{threshold: number, isExplored: boolean, found: Comparison, run: Interval, rows: Int32Array}} Shown */

export const COLUMNS = 7;

export class WhatIfRow {
  /** @param {Hypothesis} hypothesis @param {State} state */
  constructor(hypothesis, state) {
    this.hypothesis = hypothesis;
    this.state = state;
    /** @type {Shown | null} */
    this.shown = null;
    this.mark = h("span", { class: "explored", hidden: true }, "explored");
    this.cells = {
      strip: cell("plot"),
      score: cell("num", "separation"),
      p: cell("num", "p, not adjusted"),
      share: cell("num", "prevalence"),
      n: cell("num", "texts"),
    };
    this.threshold = cell("threshold", "threshold of P(yes)");
    this.spread = h("td", { colspan: COLUMNS });
    this.below = h("tr", { class: "histogram", id: `p-yes-${hypothesis.id}`, hidden: true }, this.spread);
    if (isGraded(hypothesis)) this.addSlider();
    else this.threshold.append(short(hypothesis.threshold), h("small", {}, "P(yes) is 0 or 1 everywhere"));
    this.row = h("tr", { "data-hypothesis": hypothesis.id }, this.sentence(), this.threshold, ...Object.values(this.cells));
  }

  sentence() {
    const { id, sentence } = this.hypothesis;
    const open = () => this.state.set({ open: id });
    const attributes = { type: "button", class: "opener", "aria-haspopup": "dialog", click: open };
    const button = h("button", attributes, sentence || "no usable sentence");
    return h("td", { class: "sentence" }, button, h("small", {}, `#${id} `, this.mark));
  }

  addSlider() {
    const { id } = this.hypothesis;
    const set = (/** @type {any} */ event) => this.set(event.target.valueAsNumber);
    const range = { min: 0, max: 1, step: 0.01 };
    this.slider = h("input", { type: "range", ...range, "aria-label": `threshold of hypothesis ${id}`, input: set });
    this.number = h("input", { type: "number", ...range, "aria-label": `threshold of hypothesis ${id} as a number`, input: set });
    const turn = () => this.expand(Boolean(this.below.hidden));
    const attributes = { "aria-expanded": "false", "aria-controls": this.below.id, click: turn };
    this.toggle = h("button", { type: "button", class: "link", ...attributes }, "spread");
    this.threshold.append(this.slider, this.number, this.toggle);
  }

  /** A threshold of the reader's; that of the run, as far as the slider can say it, is no change. @param {number} value */
  set(value) {
    if (!(value >= 0 && value <= 1)) return;
    this.expand(true);
    const { id, threshold } = this.hypothesis;
    const changed = Math.abs(value - threshold) < 0.005 ? null : value;
    this.state.set({ thresholds: withThreshold(this.state.view.thresholds, id, changed) });
  }

  /** @param {boolean} isOpen */
  expand(isOpen) {
    if (this.below.hidden !== isOpen) return;
    this.below.hidden = !isOpen;
    this.toggle?.setAttribute("aria-expanded", String(isOpen));
    if (isOpen && this.shown) this.draw(this.shown);
  }

  /** @param {Shown} shown @param {Scale} scale */
  update(shown, scale) {
    const { found, threshold, isExplored, run } = shown;
    const before = this.shown;
    this.shown = shown;
    this.mark.hidden = !isExplored;
    this.setInputs(threshold);
    const label = `${signed(found.score)}, 95 % interval ${span(found.low, found.high) || "unknown"}; the run has ${signed(run.at)}`;
    this.cells.strip.replaceChildren(strip(scale, { at: found.score, low: found.low, high: found.high }, run.at, label));
    if (before?.found !== found) this.write(found);
    if (before?.rows !== shown.rows || before.threshold !== threshold) this.draw(shown);
  }

  /** @param {number} threshold */
  setInputs(threshold) {
    if (!this.slider || !this.number) return;
    const isShown = Math.abs(this.number.valueAsNumber - threshold) < 0.005;
    this.slider.value = String(threshold);
    // What is being typed, as "0.", stays.
    if (!isShown) this.number.value = format(threshold);
  }

  /** @param {Comparison} found */
  write(found) {
    const { share, score, p, n } = this.cells;
    const low = percent(found.prevalenceLow).replace(" %", "");
    share.replaceChildren(percent(found.prevalence), h("small", {}, `${low} to ${percent(found.prevalenceHigh)}`));
    const reason = found.reason && h("small", { class: "note" }, `${found.reason}: no test here`);
    score.replaceChildren(signed(found.score), reason || h("small", {}, span(found.low, found.high)));
    p.replaceChildren(pValue(found.p));
    n.replaceChildren(count(found.n), h("small", {}, `${count(found.nYes)} yes`));
  }

  /** @param {Shown} shown */
  draw({ rows, threshold }) {
    if (!this.below.hidden) this.spread.replaceChildren(histogram(this.hypothesis, rows, threshold));
  }
}

/** @param {string} name @param {string} [label] of the number where rows are not in columns */
function cell(name, label) {
  return h("td", { class: name, "data-label": label ?? null });
}
