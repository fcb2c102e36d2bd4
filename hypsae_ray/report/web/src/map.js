/** A map of the texts: each dot is one, those with similar embeddings lie together. */

import { select } from "d3-selection";
import { zoom, zoomIdentity } from "d3-zoom";
import { byId, h } from "./dom.js";
import { listenForLasso } from "./lasso.js";
import { legendOf } from "./legend.js";
import { drawMap, radiusOf } from "./map_draw.js";
import { listenForKeys } from "./map_keys.js";
import { mountTools } from "./map_tools.js";
import { Neighbours, fit, toPixels, toUnits, zoomed } from "./places.js";
import { save } from "./save.js";
import { corners, toLasso } from "./selection.js";
import { showText } from "./table.js";
import { counted } from "./texts.js";
import { tonesOf } from "./tones.js";
import { Tooltip } from "./tooltip.js";

/**
 * @typedef {import("./types.js").App} App
 * @typedef {import("./places.js").Point} Point
 */

const NEAR = 12;
const HINT = "With the keyboard: arrow keys go from text to text (with Shift ten at once), Enter shows the text in the \
table, Space begins a box and selects what it holds when pressed again, Escape gives it up.";

/** @param {App} app */
export function mountMap(app) {
  const neighbours = new Neighbours(app.data);
  if (neighbours.shown.length) new TextMap(app, neighbours).mount();
  else byId("map").append(h("p", { class: "muted" }, `No ${counted(app.data, 1).slice(2)} has a place on the map.`));
}

class TextMap {
  /** @param {App} app @param {Neighbours} neighbours */
  constructor(app, neighbours) {
    this.app = app;
    this.neighbours = neighbours;
    this.canvas = h("canvas", { role: "img", tabindex: 0, "aria-describedby": "map-hint" });
    this.legend = h("p", { class: "map-legend" });
    this.frame = h("div", { class: "map-frame" }, this.canvas);
    this.tip = new Tooltip(this.frame, app.data);
    this.tones = tonesOf(app.data, "target", "");
    this.base = fit(app.data, 1, 1);
    this.zoom = zoomIdentity;
    this.selected = select(/** @type {Element} */ (this.canvas));
    this.behaviour = zoom()
      .scaleExtent([1, 60])
      .filter((event) => this.mayZoom(event))
      .on("zoom", ({ transform }) => this.move(transform));
    this.cursor = -1;
    this.isDrawing = false;
    /** @type {Point | null} */
    this.anchor = null;
    /** @type {Point[]}  what is being drawn */
    this.path = [];
    /** @type {Uint8Array | null} */
    this.lit = null;
    this.frames = 0;
  }

  mount() {
    const { state } = this.app;
    const asPng = h("button", { type: "button", class: "save", click: () => this.savePng() }, "PNG");
    byId("map").append(this.frame, h("div", { class: "map-below" }, this.legend, asPng), h("p", { id: "map-hint", class: "muted" }, HINT));
    mountTools(this.app, { draw: (isOn) => this.setDrawing(isOn), zoom: (factor) => this.zoomBy(factor) });
    this.listenToPointer();
    listenForKeys(this);
    new ResizeObserver(() => this.resize()).observe(this.frame);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    // On paper the page is light, and no further frame is drawn before it is printed.
    matchMedia("print").addEventListener("change", () => this.draw());
    state.on(["colour", "thresholds"], () => this.colour());
    state.on(["search", "lasso"], () => this.light());
  }

  listenToPointer() {
    const { canvas } = this;
    this.selected.call(this.behaviour).on("dblclick.zoom", null);
    listenForLasso(canvas, {
      isOn: () => this.isDrawing,
      locate: (event) => toUnits(this.at, [event.offsetX, event.offsetY]),
      draw: (path) => this.trace(path),
      finish: (path) => this.enclose(path),
    });
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", () => this.tip.show(-1, [0, 0]));
    canvas.addEventListener("click", (event) => {
      const i = this.under(event);
      if (i >= 0 && !this.isDrawing) showText(i);
    });
  }

  /** One finger scrolls the page until the map is enlarged. @param {any} event */
  mayZoom(event) {
    if (event.type === "wheel") return true;
    if (event.touches) return event.touches.length > 1 || (!this.isDrawing && this.zoom.k > 1);
    return !this.isDrawing && !event.button;
  }

  get at() {
    return zoomed(this.base, this.zoom);
  }

  /** The text whose dot is under the pointer, or -1. @param {MouseEvent} event */
  under(event) {
    return this.neighbours.nearest(toUnits(this.at, [event.offsetX, event.offsetY]), NEAR / this.at.scale);
  }

  /** @param {PointerEvent} event */
  hover(event) {
    const i = this.path.length || event.buttons ? -1 : this.under(event);
    this.tip.show(i, i < 0 ? [0, 0] : toPixels(this.at, this.neighbours.point(i)));
  }

  /** @param {boolean} isOn */
  setDrawing(isOn) {
    this.isDrawing = isOn;
    this.canvas.classList.toggle("drawing", isOn);
  }

  /** @param {number} factor  0 for the whole map */
  zoomBy(factor) {
    if (factor) this.behaviour.scaleBy(this.selected, factor);
    else this.behaviour.transform(this.selected, zoomIdentity);
  }

  /** @param {import("d3-zoom").ZoomTransform} transform */
  move(transform) {
    this.zoom = transform;
    this.canvas.classList.toggle("enlarged", transform.k > 1);
    this.tip.show(-1, [0, 0]);
    this.redraw();
  }

  /** @param {Point[]} path */
  trace(path) {
    this.path = path;
    this.redraw();
  }

  /** @param {Point[]} path */
  enclose(path) {
    this.path = [];
    this.app.state.set({ lasso: path.length ? toLasso(path) : "" });
    this.redraw();
  }

  /** Move the cursor of the keyboard to a text, and into view. @param {number} i */
  focus(i) {
    this.cursor = i;
    const [x, y] = toPixels(this.at, this.neighbours.point(i));
    const { clientWidth, clientHeight } = this.canvas;
    if (x < 0 || y < 0 || x > clientWidth || y > clientHeight) {
      this.behaviour.translateTo(this.selected, ...toPixels(this.base, this.neighbours.point(i)));
    }
    this.tip.show(i, toPixels(this.at, this.neighbours.point(i)));
    this.redraw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
    this.base = fit(this.app.data, width, height);
    this.behaviour.translateExtent([[0, 0], [width, height]]);
    this.draw();
  }

  colour() {
    const { data, state } = this.app;
    this.tones = tonesOf(data, state.view.colour, state.view.thresholds);
    this.legend.replaceChildren(...legendOf(this.tones), this.missing());
    this.describe();
    this.redraw();
  }

  missing() {
    const left = this.app.data.n - this.neighbours.shown.length;
    return left ? `${counted(this.app.data, left)} without a place on the map` : "";
  }

  light() {
    const { found, inside } = this.app.selection;
    this.lit = found && inside ? found.map((one, i) => one & (inside[i] ?? 0)) : (found ?? inside);
    this.describe();
    this.redraw();
  }

  describe() {
    const { data, selection } = this.app;
    const selected = selection.isEmpty ? "none is selected" : `${selection.rows().length} are selected`;
    this.canvas.setAttribute("aria-label", `Map of ${counted(data, this.neighbours.shown.length)}, coloured by ${this.tones.title}; ${selected}.`);
  }

  /** Draw once before the next picture of the screen, however often it is asked for. */
  redraw() {
    this.frames ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frames);
    this.frames = 0;
    drawMap(this.canvas, devicePixelRatio, this.scene());
  }

  /** @returns {import("./map_draw.js").Scene} */
  scene() {
    const { data, state } = this.app;
    const { tones, lit, at, cursor, anchor } = this;
    const lasso = this.path.length ? this.path : (corners(state.view.lasso) ?? []);
    return { data, tones, lit, at, lasso, cursor, anchor, radius: radiusOf(data.n, this.zoom.k) };
  }

  savePng() {
    const canvas = h("canvas", { width: 2 * this.canvas.clientWidth, height: 2 * this.canvas.clientHeight });
    drawMap(canvas, 2, { ...this.scene(), cursor: -1 });
    canvas.toBlob((blob) => blob && save(blob, "map.png"));
  }
}
