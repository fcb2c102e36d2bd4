/** Drawing around dots, with a mouse, a pen or a finger. */

/** @typedef {import("./places.js").Point} Point */

const STEP = 5;
const CORNERS = 80;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {object} use
 * @param {() => boolean} use.isOn
 * @param {(event: PointerEvent) => Point} use.locate  units of the map
 * @param {(corners: Point[]) => void} use.draw  called with what is drawn so far
 * @param {(corners: Point[]) => void} use.finish  called with the whole, or with [] where it is no area
 */
export function listenForLasso(canvas, { isOn, locate, draw, finish }) {
  /** @type {{points: Point[], x: number, y: number} | null} */
  let path = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (!isOn() || !event.isPrimary || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    path = { points: [locate(event)], x: event.offsetX, y: event.offsetY };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!path || Math.hypot(event.offsetX - path.x, event.offsetY - path.y) < STEP) return;
    path = { points: [...path.points, locate(event)], x: event.offsetX, y: event.offsetY };
    draw(path.points);
  });
  canvas.addEventListener("pointerup", () => {
    if (path) finish(path.points.length < 3 ? [] : thin(path.points));
    path = null;
  });
  canvas.addEventListener("pointercancel", () => {
    if (path) finish([]);
    path = null;
  });
}

/** So many corners that they fit into an address. @param {Point[]} points */
function thin(points) {
  const every = Math.ceil(points.length / CORNERS);
  return points.filter((_, i) => i % every === 0);
}

/** The corners of a box between two points, a margin around it. @param {Point} a @param {Point} b @param {number} margin @returns {Point[]} */
export function boxOf([ax, ay], [bx, by], margin) {
  const [left, right] = [Math.min(ax, bx) - margin, Math.max(ax, bx) + margin];
  const [low, high] = [Math.min(ay, by) - margin, Math.max(ay, by) + margin];
  return [[left, low], [right, low], [right, high], [left, high]];
}
