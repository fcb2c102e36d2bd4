/** Figures as files: SVG with the colours and fonts that the style sheet gives it, and PNG. */

import { h } from "./dom.js";
import { cssColour } from "./map_draw.js";
import { fileName, save } from "./save.js";

const SVG = "http://www.w3.org/2000/svg";
const TAKEN = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin",
  "opacity", "paint-order", "color", "visibility", "font-family", "font-size", "font-weight", "text-anchor",
];
/** @type {WeakSet<SVGSVGElement>} */
const known = new WeakSet();

/** Two buttons that save a figure. @param {SVGSVGElement} svg @param {string} name  of the files, without ending */
export function figureButtons(svg, name) {
  known.add(svg);
  const button = (/** @type {string} */ kind, /** @type {() => void} */ click) =>
    h("button", { type: "button", class: "save", "aria-label": `${name} as ${kind}`, click }, kind);
  return h(
    "span",
    { class: "figure-files" },
    button("SVG", () => save(new Blob([serialised(svg)], { type: "image/svg+xml" }), `${fileName(name)}.svg`)),
    button("PNG", () => savePng(svg, `${fileName(name)}.png`)),
  );
}

/** Give buttons to each figure of the page that has none, whenever figures come and go. */
export function offerFiles() {
  /** @type {Map<SVGSVGElement, HTMLElement>} */
  const offered = new Map();
  const update = () => {
    for (const [svg, buttons] of offered) {
      if (svg.isConnected) continue;
      buttons.remove();
      offered.delete(svg);
    }
    for (const svg of document.querySelectorAll("svg.figure")) {
      if (!(svg instanceof SVGSVGElement) || known.has(svg) || svg.closest("tr")) continue;
      const buttons = figureButtons(svg, svg.getAttribute("aria-label") ?? "figure");
      offered.set(svg, buttons);
      svg.after(buttons);
    }
  };
  new MutationObserver(update).observe(document.body, { childList: true, subtree: true });
  update();
}

/** A file of its own: on the page's paper, what the style sheet says as attributes. @param {SVGSVGElement} svg */
export function serialised(svg) {
  const { width, height } = svg.getBoundingClientRect();
  const copy = /** @type {SVGSVGElement} */ (svg.cloneNode(true));
  inline(svg, copy);
  copy.setAttribute("xmlns", SVG);
  if (!copy.hasAttribute("viewBox")) copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  copy.prepend(paper(copy));
  // Characters that XML does not know would make the whole unreadable.
  return new XMLSerializer().serializeToString(copy).replace(/(?![\t\n\r])\p{Cc}/gu, "");
}

/** @param {Element} from @param {Element} to */
function inline(from, to) {
  const style = getComputedStyle(from);
  for (const name of TAKEN) to.setAttribute(name, style.getPropertyValue(name));
  to.removeAttribute("style");
  to.removeAttribute("class");
  [...from.children].forEach((child, i) => inline(child, /** @type {Element} */ (to.children[i])));
}

/** @param {SVGSVGElement} svg */
function paper(svg) {
  const [x, y, width, height] = (svg.getAttribute("viewBox") ?? "").split(/[\s,]+/u);
  const rectangle = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ x, y, width, height, fill: cssColour("--paper") })) {
    rectangle.setAttribute(name, String(value));
  }
  return rectangle;
}

/** @param {SVGSVGElement} svg @param {string} name */
async function savePng(svg, name) {
  const address = URL.createObjectURL(new Blob([serialised(svg)], { type: "image/svg+xml" }));
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = h("canvas", { width: 2 * image.width, height: 2 * image.height });
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(address);
  canvas.toBlob((blob) => blob && save(blob, name));
}
