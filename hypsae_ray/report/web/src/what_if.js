/** What if: prevalence and separation on other texts and with other thresholds, to explore and not to test. */

import { Comparisons } from "./comparisons.js";
import { byId, h } from "./dom.js";
import { thresholdOf } from "./labels.js";
import { axis, scaleOf } from "./strip.js";
import { isNarrow, readSubgroup, rowsOfSubgroup } from "./subgroup.js";
import { WhatIfRow } from "./what_if_row.js";
import { whatIfTools } from "./what_if_tools.js";
import { count, numberOf } from "./words.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Hypothesis} Hypothesis */
/** @typedef {import("./strip.js").Interval} Interval */
/** @typedef {import("./what_if_row.js").Shown} Shown */

/** So long after a change is it announced: not every step of a slider. */
const QUIET_MS = 300;

/** @param {App} app */
export function mountWhatIf(app) {
  if (!app.data.hypotheses.length) return;
  const whatIf = new WhatIf(app);
  let isDue = false;
  app.state.on(["subgroup", "thresholds", "search", "lasso"], () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      whatIf.update();
    });
  });
}

class WhatIf {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.comparisons = new Comparisons(app.data);
    this.tools = whatIfTools(app);
    this.lines = app.data.hypotheses.map((hypothesis) => new WhatIfRow(hypothesis, app.state));
    this.plot = h("th", { scope: "col", class: "plot" });
    this.status = h("p", { role: "status" });
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.waiting = undefined;
    /** @type {Int32Array} */
    this.rows = new Int32Array();
    this.rowsOf = "";
    byId("what-if-tools").replaceChildren(...this.tools.elements);
    byId("what-if-results").replaceChildren(...this.sample(), this.status, this.table(), key());
  }

  table() {
    /** @param {string} name @param {string} [below] */
    const number = (name, below) => h("th", { scope: "col", class: "num" }, name, below && h("small", {}, below));
    const head = h(
      "tr",
      {},
      h("th", { scope: "col" }, "Hypothesis"),
      h("th", { scope: "col" }, "Threshold", h("small", {}, "of P(yes)")),
      this.plot,
      number("Separation", "95 % interval"),
      number("p", "not adjusted"),
      number("Prevalence", "95 % interval"),
      number(this.app.data.task === "pairwise" ? "Pairs" : "Texts"),
    );
    const lines = this.lines.flatMap(({ row, below }) => [row, below]);
    return h("table", { class: "forest explore" }, h("thead", {}, head), h("tbody", {}, ...lines));
  }

  sample() {
    const { n, nAll } = this.app.data;
    if (n >= nAll) return [];
    const held = `The page holds ${count(n)} of the ${count(nAll)} labelled texts, drawn at random`;
    return [h("p", { class: "muted" }, `${held}: numbers differ from those of the run by chance.`)];
  }

  /** Compute what has changed, and show it. */
  update() {
    const { data, state, selection } = this.app;
    this.tools.show();
    this.chooseRows();
    const subgroup = readSubgroup(state.view.subgroup);
    const isPart = isNarrow(subgroup, selection);
    const code = data.classes?.[subgroup.code] === undefined ? 0 : subgroup.code;
    const all = this.lines.map(({ hypothesis }) => {
      const threshold = thresholdOf(hypothesis, state.view.thresholds);
      const found = this.comparisons.of(hypothesis, threshold, this.rows, code);
      const isExplored = isPart || threshold !== hypothesis.threshold;
      return { threshold, isExplored, found, rows: this.rows, run: this.run(hypothesis, code) };
    });
    this.show(all);
  }

  /** The texts, in the same array for as long as they are the same. */
  chooseRows() {
    const { data, state, selection } = this.app;
    const { subgroup, search, lasso } = state.view;
    const { selected, ranges } = readSubgroup(subgroup);
    const rowsOf = JSON.stringify([[...ranges], selected && [search, lasso]]);
    if (this.rowsOf === rowsOf) return;
    this.rowsOf = rowsOf;
    this.rows = rowsOfSubgroup(data, readSubgroup(subgroup), selection);
  }

  /** What the run has. @param {Hypothesis} hypothesis @param {number} code */
  run({ results }, code) {
    const { classes } = this.app.data;
    const mine = classes ? results.find((result) => String(result.target_class) === classes[code]) : results[0];
    const [at, low, high] = ["score", "ci_low", "ci_high"].map((name) => numberOf(mine, `separation_${name}`));
    return /** @type {Interval} */ ({ at, low, high });
  }

  /** @param {Shown[]} all */
  show(all) {
    const intervals = all.map(({ found }) => ({ at: found.score, low: found.low, high: found.high }));
    const scale = scaleOf([...intervals, ...all.map(({ run }) => run)]);
    const unit = this.app.data.classes ? "the share of the class" : this.app.data.target;
    this.plot.replaceChildren(h("span", {}, `Separation in ${unit}`), axis(scale));
    this.lines.forEach((line, i) => line.update(/** @type {Shown} */ (all[i]), scale));
    this.announce(all);
  }

  /** @param {Shown[]} all */
  announce(all) {
    const clear = all.filter(({ found }) => found.low > 0 || found.high < 0).length;
    const { n, task } = this.app.data;
    const of = this.rows.length < n ? `${count(this.rows.length)} of ${count(n)}` : `all ${count(n)}`;
    const text = `On ${of} ${task === "pairwise" ? "pairs" : "texts"}, ${clear} of ${all.length} intervals exclude 0.`;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      if (this.status.textContent !== text) this.status.textContent = text;
    }, QUIET_MS);
  }
}

function key() {
  return h(
    "p",
    { class: "legend" },
    "Dot and line: separation and its 95 % interval on these texts. Ring: what the run has, on all texts at its own threshold. ",
    "Explored: at another threshold, or on some of the texts only.",
  );
}
