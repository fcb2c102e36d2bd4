import { figure } from "./figure.js";

/**
 * A figure whose parts have no names of their own: an image is heard as one, by its label.
 * @param {Parameters<typeof figure>[0]} options
 * @param {string} label
 */
export function drawing(options, label) {
  const svg = figure(options, label);
  for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  return svg;
}
