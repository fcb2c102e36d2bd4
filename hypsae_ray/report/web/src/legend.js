/** What the colours of the map mean. */

import { h } from "./dom.js";
import { cut } from "./texts.js";

/** @typedef {import("./tones.js").Tones} Tones */

/** @param {Tones} tones @returns {Node[]} */
export function legendOf({ title, tone, paints, stops, names }) {
  const heading = h("span", { class: "legend-title" }, cut(title, 90));
  if (!stops.length) return [heading, ...paints.map((paint, i) => (names[i] ? entry(paint, names[i]) : ""))].map(toNode);
  const bar = h("span", { class: "ramp" });
  bar.style.background = `linear-gradient(to right, ${stops.map((stop) => `var(${stop})`).join(", ")})`;
  const none = paints.length - 1;
  return [
    heading,
    h("span", { class: "ramp-box" }, bar, h("span", { class: "ramp-ends" }, ...names.map((name) => h("span", {}, name)))),
    ...(tone.includes(none) ? [entry(/** @type {import("./tones.js").Paint} */ (paints[none]), "none")] : []),
  ];
}

/** @param {Node | string} one @returns {Node} */
function toNode(one) {
  return typeof one === "string" ? document.createTextNode(one) : one;
}

/** @param {import("./tones.js").Paint} paint @param {string | undefined} name */
function entry(paint, name) {
  const dot = h("span", { class: paint.hollow ? "swatch hollow" : "swatch" });
  dot.style.color = `var(${paint.from})`;
  return h("span", { class: "legend-entry" }, dot, String(name));
}
