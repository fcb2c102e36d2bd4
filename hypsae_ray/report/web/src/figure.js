import { plot } from "@observablehq/plot";

/**
 * A figure of Observable Plot for the page.
 *
 * Plot brings a style element, which the page's Content-Security-Policy refuses: it is taken out before the
 * document sees it, and `.figure` of the style sheet says the same.
 *
 * @param {import("@observablehq/plot").PlotOptions} options without `title`, `caption` and `legend`, which would
 *   put the SVG into an HTML figure
 * @param {string} label what it shows, for those who do not see it
 * @returns {SVGSVGElement}
 */
export function figure(options, label) {
  const svg = plot(options);
  if (!(svg instanceof SVGSVGElement)) throw new TypeError("these options make an HTML figure, not an SVG");
  for (const style of svg.querySelectorAll("style")) style.remove();
  for (const mark of svg.querySelectorAll("[aria-label]")) mark.removeAttribute("aria-label"); // the figure is one image
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.classList.add("figure");
  return svg;
}
