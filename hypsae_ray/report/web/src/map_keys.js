/** The map by the keyboard: a cursor that goes from dot to dot, and a box in place of the lasso. */

import { h } from "./dom.js";
import { boxOf } from "./lasso.js";
import { DIRECTIONS, toUnits } from "./places.js";
import { showText } from "./table.js";
import { spoken } from "./tooltip.js";

/**
 * @typedef {import("./places.js").Point} Point
 *
 * @typedef {object} Map  what the keys need of it
 * @property {import("./types.js").App} app
 * @property {HTMLCanvasElement} canvas
 * @property {HTMLElement} frame
 * @property {import("./places.js").Neighbours} neighbours
 * @property {import("./places.js").Fit} at
 * @property {import("./tooltip.js").Tooltip} tip
 * @property {number} cursor
 * @property {Point | null} anchor
 * @property {(i: number) => void} focus
 * @property {(corners: Point[]) => void} enclose
 * @property {() => void} redraw
 */

const MARGIN = 6;

/** @param {Map} map */
export function listenForKeys(map) {
  const status = h("p", { role: "status", class: "only-heard" });
  map.frame.append(status);
  map.canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !act(map, event)) return;
    event.preventDefault();
    status.textContent = map.cursor < 0 ? "" : spoken(map.app.data, map.cursor);
  });
  map.canvas.addEventListener("blur", () => {
    map.tip.show(-1, [0, 0]);
  });
}

/** Do what a key asks for; false where it asks for nothing. @param {Map} map @param {KeyboardEvent} event */
function act(map, { key, shiftKey }) {
  const direction = DIRECTIONS[key];
  if (direction) go(map, direction, shiftKey ? 10 : 1);
  else if (key === "Enter" && map.cursor >= 0) showText(map.cursor);
  else if (key === " " && map.cursor >= 0) mark(map);
  else if (key === "Escape" && map.anchor) map.anchor = null;
  else return false;
  map.redraw();
  return true;
}

/** @param {Map} map @param {Point} direction @param {number} steps */
function go(map, direction, steps) {
  const { canvas, neighbours, at } = map;
  let i = map.cursor;
  if (i < 0) i = neighbours.nearest(toUnits(at, [canvas.clientWidth / 2, canvas.clientHeight / 2]));
  else for (let step = 0; step < steps; step++) i = neighbours.next(i, direction);
  map.focus(i);
}

/** Begin a box at the cursor, or select what lies in it. @param {Map} map */
function mark(map) {
  const here = map.neighbours.point(map.cursor);
  if (!map.anchor) {
    map.anchor = here;
    return;
  }
  const box = boxOf(map.anchor, here, MARGIN / map.at.scale);
  map.anchor = null;
  map.enclose(box);
}
