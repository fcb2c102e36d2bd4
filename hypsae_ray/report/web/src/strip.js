/** Strips of one common scale, in percent of their width: forest.py and forest.html.j2 in the browser. */

/** @typedef {{low: number, high: number, ticks: number[]}} Scale */
/** @typedef {{at: number, low: number, high: number}} Interval */

const MARGIN = 0.04;
const MOST_TICKS = 6;

/**
 * A scale that holds 0 and each interval; of an end that is very far off only the beginning.
 * @param {Interval[]} intervals
 * @returns {Scale}
 */
export function scaleOf(intervals) {
  const known = intervals.filter(isKnown);
  if (!known.length) return between(-1, 1);
  const ends = known.map(({ low, high }) => Math.max(Math.abs(low), Math.abs(high))).sort((a, b) => a - b);
  const median = /** @type {number} */ (ends[Math.floor(ends.length / 2)]);
  const limit = Math.max(3 * median, 1.1 * Math.max(...known.map(({ at }) => Math.abs(at)))) || 1;
  const left = Math.min(0, Math.max(Math.min(...known.map(({ low }) => low)), -limit));
  const right = Math.max(0, Math.min(Math.max(...known.map(({ high }) => high)), limit));
  const room = MARGIN * (right - left || 1);
  return between(left - room, right + room);
}

/** @param {Interval} interval */
export function isKnown({ at, low, high }) {
  return Number.isFinite(at) && Number.isFinite(low) && Number.isFinite(high);
}

/** @param {number} low @param {number} high @returns {Scale} */
function between(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / MOST_TICKS));
  const isCoarse = (/** @type {number} */ step) => Math.floor(high / step) - Math.ceil(low / step) < MOST_TICKS;
  const step = [1, 2, 5, 10, 20].map((factor) => factor * power).find(isCoarse) ?? high - low;
  const ticks = [];
  for (let i = Math.ceil(low / step); i <= Math.floor(high / step); i++) ticks.push(Number((i * step).toPrecision(12)));
  return { low, high, ticks };
}

/** Where a value lies, cut off at the edges. @param {Scale} scale @param {number} value */
function place({ low, high }, value) {
  return `${(100 * Math.min(Math.max((value - low) / (high - low), 0), 1)).toFixed(2)}%`;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 */
function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** @param {Scale} scale */
export function axis(scale) {
  const marks = scale.ticks.flatMap((tick) => {
    const x = place(scale, tick);
    const label = String(tick).replace("-", "−");
    return [
      svg("text", { x, y: 11, "text-anchor": "middle" }, label),
      svg("line", { class: tick === 0 ? "zero" : "tick", x1: x, x2: x, y1: 16, y2: "100%" }),
    ];
  });
  return svg("svg", { class: "axis", "aria-hidden": "true" }, ...marks);
}

/**
 * An interval, and below it that of the run as a hollow mark.
 * @param {Scale} scale
 * @param {Interval} now
 * @param {number} run NaN: there is none
 * @param {string} label
 */
export function strip(scale, now, run, label) {
  const grid = scale.ticks.map((tick) => vertical(scale, tick));
  const marks = isKnown(now) ? whisker(scale, now) : [];
  const own = Number.isFinite(run) ? [svg("circle", { class: "marker run", cx: place(scale, run), cy: "50%", r: 5 })] : [];
  const title = svg("title", {}, label);
  return svg("svg", { class: `strip ${now.at > 0 ? "up" : "down"}`, role: "img" }, title, ...grid, ...own, ...marks);
}

/** @param {Scale} scale @param {number} tick */
function vertical(scale, tick) {
  const x = place(scale, tick);
  return svg("line", { class: tick === 0 ? "zero" : "tick", x1: x, x2: x, y1: 0, y2: "100%" });
}

/** @param {Scale} scale @param {Interval} interval */
function whisker(scale, { at, low, high }) {
  const marks = [
    svg("line", { class: "ci", x1: place(scale, low), x2: place(scale, high), y1: "50%", y2: "50%" }),
    svg("circle", { class: "marker filled", cx: place(scale, at), cy: "50%", r: 3.5 }),
  ];
  if (low < scale.low) marks.push(svg("text", { class: "cut", x: 0, y: "50%", dy: 4 }, "◂"));
  if (high > scale.high) marks.push(svg("text", { class: "cut", x: "100%", y: "50%", dy: 4, "text-anchor": "end" }, "▸"));
  return marks;
}
