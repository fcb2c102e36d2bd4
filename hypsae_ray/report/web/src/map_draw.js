/**
 * The picture of the map. Dots are copied pixel by pixel from a strip with one dot of each colour: 20,000 take 10 ms,
 * and ten times as long by the canvas's own drawImage.
 */

import { toPixels } from "./places.js";

/**
 * @typedef {import("./types.js").RunData} RunData
 * @typedef {import("./places.js").Fit} Fit
 * @typedef {import("./places.js").Point} Point
 *
 * @typedef {object} Scene
 * @property {RunData} data
 * @property {import("./tones.js").Tones} tones
 * @property {Uint8Array | null} lit  (n,) 1 for the selected texts, or null where nothing is selected
 * @property {Fit} at
 * @property {number} radius  of a dot in pixels
 * @property {Point[]} lasso  in units of the map
 * @property {number} cursor  position of a text, or -1
 * @property {Point | null} anchor  where a box of the keyboard begins, in units of the map
 *
 * @typedef {object} Dots
 * @property {Uint8ClampedArray} pixels  red, green, blue and alpha of the strip, which ends with a field of paper
 * @property {number} side  of one dot
 * @property {number} width  of the strip
 */

const PALE = 0.16;

/** @param {number} n  dots @param {number} k  zoom */
export function radiusOf(n, k) {
  return Math.min(5, Math.max(2, 100 / Math.sqrt(n))) * Math.min(2, k ** 0.35);
}

/** The value of a variable of the page's style, as it is now. @param {string} name */
export function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/**
 * @param {HTMLCanvasElement} canvas  all of it is drawn anew
 * @param {number} ratio  pixels of the canvas to one of the page
 * @param {Scene} scene
 */
export function drawMap(canvas, ratio, scene) {
  const context = canvas.getContext("2d");
  if (!context || !canvas.width || !canvas.height) return;
  const image = context.createImageData(canvas.width, canvas.height);
  const dots = dotsOf(scene, ratio);
  const { lit } = scene;
  new Uint32Array(image.data.buffer).fill(/** @type {number} */ (new Uint32Array(dots.pixels.buffer).at(-1)));
  if (lit) copyDots(image, dots, ratio, scene, PALE, (i) => lit[i] === 0);
  copyDots(image, dots, ratio, scene, 1, (i) => !lit || lit[i] === 1);
  context.putImageData(image, 0, 0);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawLasso(context, scene);
  drawCursor(context, scene);
}

/** A strip of one dot of each paint. @param {Scene} scene @param {number} ratio @returns {Dots} */
function dotsOf({ tones, radius }, ratio) {
  const strip = document.createElement("canvas");
  const side = Math.ceil(2 * (radius + 1) * ratio);
  strip.width = side * (tones.paints.length + 1);
  strip.height = side;
  const context = strip.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser has no canvas");
  tones.paints.forEach((paint, i) => drawDot(context, paint, side * (i + 0.5), side / 2, radius * ratio));
  context.fillStyle = cssColour("--paper");
  context.fillRect(strip.width - side, 0, side, side);
  return { pixels: context.getImageData(0, 0, strip.width, side).data, side, width: strip.width };
}

/** @param {CanvasRenderingContext2D} context @param {import("./tones.js").Paint} paint @param {number} x @param {number} y @param {number} radius */
function drawDot(context, { from, to, share = 0, hollow }, x, y, radius) {
  const colour = to ? `color-mix(in srgb, ${cssColour(to)} ${100 * share}%, ${cssColour(from)})` : cssColour(from);
  context.beginPath();
  context.arc(x, y, hollow ? 0.8 * radius : radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.strokeStyle = hollow ? colour : cssColour("--paper");
  context.lineWidth = radius / 4;
  if (!hollow) context.fill();
  context.stroke();
}

/**
 * @param {ImageData} image @param {Dots} dots @param {number} ratio @param {Scene} scene @param {number} opacity
 * @param {(i: number) => boolean} isDrawn
 */
function copyDots(image, dots, ratio, { data, tones, at }, opacity, isDrawn) {
  const { x, y, n } = data;
  const { side } = dots;
  for (let i = 0; i < n; i++) {
    if (!isDrawn(i)) continue;
    const left = Math.round((/** @type {number} */ (x[i]) * at.scale + at.left) * ratio - side / 2);
    const top = Math.round((at.top - /** @type {number} */ (y[i]) * at.scale) * ratio - side / 2);
    // Also false where there is no place.
    if (!(left > -side && left < image.width && top > -side && top < image.height)) continue;
    copyDot(image, dots, side * /** @type {number} */ (tones.tone[i]), left, top, opacity);
  }
}

/** @param {ImageData} image @param {Dots} dots @param {number} from  left edge in the strip @param {number} left @param {number} top @param {number} opacity */
function copyDot({ data, width, height }, dots, from, left, top, opacity) {
  const { pixels, side } = dots;
  const [start, end] = [Math.max(0, -left), Math.min(side, width - left)];
  for (let row = Math.max(0, -top); row < Math.min(side, height - top); row++) {
    let source = 4 * (row * dots.width + from + start);
    let target = 4 * ((top + row) * width + left + start);
    for (let column = start; column < end; column++, source += 4, target += 4) {
      const share = (opacity * /** @type {number} */ (pixels[source + 3])) / 255;
      if (share) for (let k = 0; k < 3; k++) mix(data, target + k, /** @type {number} */ (pixels[source + k]), share);
    }
  }
}

/** @param {Uint8ClampedArray} data @param {number} at @param {number} value @param {number} share */
function mix(data, at, value, share) {
  const before = /** @type {number} */ (data[at]);
  data[at] = before + share * (value - before);
}

/** @param {CanvasRenderingContext2D} context @param {Scene} scene */
function drawLasso(context, { lasso, at }) {
  if (lasso.length < 2) return;
  context.beginPath();
  for (const point of lasso) context.lineTo(...toPixels(at, point));
  context.closePath();
  context.strokeStyle = cssColour("--ink");
  context.lineWidth = 1.5;
  context.stroke();
  context.globalAlpha = 0.05;
  context.fillStyle = cssColour("--ink");
  context.fill();
  context.globalAlpha = 1;
}

/** A ring around the dot of the keyboard, and the box that it spans. @param {CanvasRenderingContext2D} context @param {Scene} scene */
function drawCursor(context, { data, cursor, anchor, at, radius }) {
  if (cursor < 0) return;
  const [x, y] = toPixels(at, [data.x[cursor] ?? NaN, data.y[cursor] ?? NaN]);
  context.strokeStyle = cssColour("--ink");
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x, y, radius + 3, 0, 2 * Math.PI);
  context.stroke();
  if (!anchor) return;
  const [ax, ay] = toPixels(at, anchor);
  context.setLineDash([5, 4]);
  context.strokeRect(Math.min(x, ax) - 6, Math.min(y, ay) - 6, Math.abs(x - ax) + 12, Math.abs(y - ay) + 12);
  context.setLineDash([]);
}
