/** The table of hypotheses as one figure that can be saved: the rows that are shown, in their order. */

import { dot, ruleX, ruleY } from "@observablehq/plot";
import { byId, h, signed } from "./dom.js";
import { figure } from "./figure.js";
import { numberOf, span, textOf } from "./words.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {{name: string, at: number, low: number, high: number, significant: boolean}} Effect */

const LONGEST = 70;
const ROW = 24;

/** @param {App} app @param {() => import("./hypotheses.js").Row[]} shown  the rows, as they stand in the table */
export function mountForestFigure(app, shown) {
  const box = h("div");
  const details = h("details", { class: "saved", toggle: draw }, h("summary", {}, "These rows as a figure, to save"), box);
  byId("hypothesis-tools").after(details);
  function draw() {
    box.replaceChildren(...(details.open ? forest(app, shown()) : []));
  }
  app.state.on(["find", "filter", "sort"], draw);
}

/** @param {App} app @param {import("./hypotheses.js").Row[]} rows @returns {Node[]} */
function forest({ data }, rows) {
  const effects = rows.map((row, i) => effectOf(row, i)).filter((one) => Number.isFinite(one.at));
  if (!effects.length) return [h("p", {}, "None of these rows has an effect.")];
  const said = effects.map(({ name, at, low, high }) => `${name}: ${signed(at)}, ${span(low, high)}`);
  const known = effects.filter((one) => Number.isFinite(one.low + one.high));
  const drawn = figure(
    {
      width: 860,
      height: ROW * effects.length + 60,
      marginLeft: 24 + 6 * Math.max(...effects.map((one) => one.name.length)),
      marginRight: 20,
      x: { label: `effect on ${data.target}, with 95 % interval`, domain: domain(), clamp: true, grid: true },
      y: { label: null, domain: effects.map((one) => one.name), tickSize: 0 },
      marks: [
        ruleX([0], { stroke: "var(--soft)" }),
        ruleY(known, { y: "name", x1: "low", x2: "high", stroke: colour, strokeWidth: 2.5 }),
        dot(effects, { y: "name", x: "at", fill: (one) => (one.significant ? colour(one) : "var(--paper)"), stroke: colour, r: 4.5 }),
      ],
    },
    `Effects. ${said.join("; ")}`,
  );
  return [drawn, h("p", { class: "muted" }, "Filled: significant. What lies beyond the axis is drawn at its edge.")];
}

/** The ends of the axis of the table, which a single shaky estimate does not stretch. @returns {[number, number]} */
function domain() {
  const { low, high } = /** @type {HTMLElement} */ (document.querySelector("#hypotheses table.forest")).dataset;
  return [Number(low), Number(high)];
}

/** @param {import("./hypotheses.js").Row} row @param {number} i @returns {Effect} */
function effectOf({ sentence, result }, i) {
  const ofClass = textOf(result, "target_class");
  const name = `${i + 1}. ${ofClass && `${ofClass}: `}${sentence || "no usable sentence"}`;
  return {
    name: name.length > LONGEST ? `${name.slice(0, LONGEST)}…` : name,
    at: numberOf(result, "regression_coef"),
    low: numberOf(result, "regression_ci_low"),
    high: numberOf(result, "regression_ci_high"),
    significant: Boolean(result.significant),
  };
}

/** @param {Effect} effect */
function colour({ at }) {
  return at > 0 ? "var(--up)" : "var(--down)";
}
