/** What a dot of the map is, beside it. */

import { h } from "./dom.js";
import { cut, nameOf, partsOf, targetOf } from "./texts.js";

/** @typedef {import("./types.js").RunData} RunData */

const CUT = 160;

/** A text in few words, its parts and its target. @param {RunData} data @param {number} i */
export function summary(data, i) {
  const parts = partsOf(data, i).map((part) => cut(part, CUT) || "(empty)");
  return { parts, target: `${data.target}: ${targetOf(data, i)}` };
}

/** The same as one sentence, for those who hear it. @param {RunData} data @param {number} i */
export function spoken(data, i) {
  const { parts, target } = summary(data, i);
  return [...(parts.length ? parts : [nameOf(data, i)]), target].join(". ");
}

export class Tooltip {
  /** @param {HTMLElement} frame  positioned, the map's @param {RunData} data */
  constructor(frame, data) {
    this.frame = frame;
    this.data = data;
    this.element = h("div", { class: "map-tip", hidden: true, "aria-hidden": "true" });
    frame.append(this.element);
  }

  /** @param {number} i  position of the text, or -1 @param {[number, number]} pixels  where its dot is */
  show(i, [x, y]) {
    this.element.hidden = i < 0;
    if (i < 0) return;
    const { parts, target } = summary(this.data, i);
    this.element.replaceChildren(
      ...parts.map((part) => h("p", { dir: "auto" }, part)),
      h("p", { class: "muted" }, target),
    );
    const { style, offsetWidth, offsetHeight } = this.element;
    style.left = `${Math.max(0, Math.min(x + 12, this.frame.clientWidth - offsetWidth))}px`;
    style.top = `${y + 14 + offsetHeight > this.frame.clientHeight ? y - 12 - offsetHeight : y + 14}px`;
  }
}
