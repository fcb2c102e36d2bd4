/** Which texts are meant: those in the lasso, those that the search finds, or those of both. */

import { polygonContains } from "d3-polygon";

/** @typedef {import("./types.js").RunData} RunData */
/** @typedef {import("./state.js").State} State */

export class Selection {
  /** @param {RunData} data @param {State} state */
  constructor(data, state) {
    this.data = data;
    /** @type {Uint8Array | null}  (n,) 1 where the search finds a text; null: nothing is sought */
    this.found = null;
    /** @type {Uint8Array | null}  (n,) 1 inside the lasso; null: there is none */
    this.inside = null;
    /** Why the search cannot be run, for people; "" if it can. */
    this.problem = "";
    state.on(["search"], () => this.find(state.view.search));
    state.on(["lasso"], () => this.enclose(corners(state.view.lasso)));
  }

  get isEmpty() {
    return this.found === null && this.inside === null;
  }

  /** @returns {Int32Array} positions of the selected texts; of all where nothing is selected */
  rows() {
    const { found, inside } = this;
    const rows = [];
    for (let i = 0; i < this.data.n; i++) {
      if ((found === null || found[i]) && (inside === null || inside[i])) rows.push(i);
    }
    return Int32Array.from(rows);
  }

  /** @param {string} search */
  find(search) {
    this.problem = "";
    this.found = null;
    const { texts, textsB, ids } = this.data;
    if (!search) return;
    const pattern = this.pattern(search);
    if (!pattern) return;
    this.found = new Uint8Array(this.data.n);
    for (let i = 0; i < this.data.n; i++) {
      const parts = texts ? [texts[i] ?? "", textsB?.[i] ?? ""] : [ids?.[i] ?? ""];
      if (parts.some((part) => pattern.test(part))) this.found[i] = 1;
    }
  }

  /** @param {string} search @returns {RegExp | null} */
  pattern(search) {
    const written = /^\/(.+)\/$/.exec(search)?.[1];
    try {
      return new RegExp(written ?? wordPattern(search), "iu");
    } catch (error) {
      this.problem = `not a regular expression: ${error instanceof Error ? error.message : error}`;
      return null;
    }
  }

  /** @param {[number, number][] | null} polygon */
  enclose(polygon) {
    this.inside = null;
    if (!polygon) return;
    const { x, y, n } = this.data;
    this.inside = Uint8Array.from({ length: n }, (_, i) =>
      Number(polygonContains(polygon, [/** @type {number} */ (x[i]), /** @type {number} */ (y[i])])),
    );
  }
}

/** A word or phrase at the beginning of words: "wait" finds "waited". @param {string} search */
function wordPattern(search) {
  const escaped = search.trim().replace(/[.*+?^${}()|[\]\\/]/gu, "\\$&").replace(/\s+/gu, "\\s+");
  return `(?<![\\p{L}\\p{N}])${escaped}`;
}

/** @param {string} lasso "x,y x,y" @returns {[number, number][] | null} */
export function corners(lasso) {
  const points = lasso.split(" ").filter(Boolean).map((pair) => pair.split(",").map(Number));
  if (points.length < 3 || points.some((point) => point.length !== 2 || !point.every(Number.isFinite))) return null;
  return /** @type {[number, number][]} */ (points);
}

/** @param {[number, number][]} polygon */
export function toLasso(polygon) {
  return polygon.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
}
