/** Elements, made in one call. Texts become text nodes, so that nothing in them is markup. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number | boolean | null | ((event: any) => void)>} [attributes]
 *   functions are listeners to the event of that name; false and null leave an attribute out
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map(toNode));
  return element;
}

/** @param {Child} child */
function toNode(child) {
  return child instanceof Node ? child : String(child);
}

/** The element of an id, which the template has. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return element;
}

/** @param {number} value @param {number} [digits] */
export function format(value, digits = 2) {
  if (!Number.isFinite(value)) return "–";
  return value.toFixed(digits).replace("-", "−");
}

/** A signed number, as effects are written. @param {number} value @param {number} [digits] */
export function signed(value, digits = 2) {
  return value > 0 ? `+${format(value, digits)}` : format(value, digits);
}

/** @param {number} value */
export function percent(value) {
  return Number.isFinite(value) ? `${format(100 * value, 1)} %` : "–";
}
