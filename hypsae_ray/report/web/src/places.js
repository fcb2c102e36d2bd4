/** Where the dots of the map are: on the screen, and which one is near. */

import { Delaunay } from "d3-delaunay";

/**
 * @typedef {import("./types.js").RunData} RunData
 * @typedef {[number, number]} Point
 * @typedef {{scale: number, left: number, top: number}} Fit  from units of the map to pixels: x * scale + left, top - y * scale
 */

const MARGIN = 14;

/** The whole map in so many pixels, both axes alike. @param {RunData} data @param {number} width @param {number} height @returns {Fit} */
export function fit(data, width, height) {
  const [x0, x1] = ends(data.x);
  const [y0, y1] = ends(data.y);
  const scale = Math.min(Math.max(1, width - 2 * MARGIN) / (x1 - x0 || 1), Math.max(1, height - 2 * MARGIN) / (y1 - y0 || 1));
  return { scale, left: width / 2 - (scale * (x0 + x1)) / 2, top: height / 2 + (scale * (y0 + y1)) / 2 };
}

/** @param {Float32Array} values @returns {Point} */
function ends(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 0];
}

/** The fit under a zoom. @param {Fit} base @param {{k: number, x: number, y: number}} zoom @returns {Fit} */
export function zoomed(base, { k, x, y }) {
  return { scale: base.scale * k, left: base.left * k + x, top: base.top * k + y };
}

/** @param {Fit} at @param {Point} point  in units of the map @returns {Point} pixels */
export function toPixels(at, [x, y]) {
  return [x * at.scale + at.left, at.top - y * at.scale];
}

/** @param {Fit} at @param {Point} pixels @returns {Point} units of the map */
export function toUnits(at, [px, py]) {
  return [(px - at.left) / at.scale, (at.top - py) / at.scale];
}

/** @type {Record<string, Point>} */
export const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Dots that have a place, and who is next to whom. */
export class Neighbours {
  /** @param {RunData} data */
  constructor(data) {
    this.data = data;
    const isShown = (/** @type {number} */ i) => Number.isFinite(data.x[i]) && Number.isFinite(data.y[i]);
    /** @type {Int32Array} positions of the texts with a place */
    this.shown = Int32Array.from({ length: data.n }, (_, i) => i).filter(isShown);
    const points = new Float64Array(2 * this.shown.length);
    this.shown.forEach((i, at) => points.set(this.point(i), 2 * at));
    this.delaunay = new Delaunay(points);
    this.last = 0;
  }

  /** @param {number} i @returns {Point} */
  point(i) {
    return [this.data.x[i] ?? NaN, this.data.y[i] ?? NaN];
  }

  /** The text nearest to a point, or -1 if none is so near. @param {Point} point @param {number} [within] in units of the map */
  nearest([x, y], within = Infinity) {
    if (!this.shown.length) return -1;
    this.last = this.delaunay.find(x, y, this.last);
    const i = this.shown[this.last] ?? -1;
    const [px, py] = this.point(i);
    return Math.hypot(px - x, py - y) <= within ? i : -1;
  }

  /**
   * The neighbour that lies best in a direction, or the text itself where none does.
   * @param {number} i @param {Point} direction
   */
  next(i, [dx, dy]) {
    const [x, y] = this.point(i);
    let [best, least] = [i, Infinity];
    for (const near of this.delaunay.neighbors(this.shown.indexOf(i))) {
      const other = this.shown[near] ?? i;
      const [ox, oy] = this.point(other);
      const along = (ox - x) * dx + (oy - y) * dy;
      const distance = Math.hypot(ox - x, oy - y);
      // Within 60 degrees: those straight ahead count as nearer.
      if (along > distance / 2 && (distance * distance) / along < least) [best, least] = [other, (distance * distance) / along];
    }
    return best;
  }
}
