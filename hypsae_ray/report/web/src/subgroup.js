/**
 * Which texts What if compares, as the view keeps it: "age=30..60;selection=1;class=2". Ends may be left out; names
 * are written so that none of %;= stands in them.
 */

/** @typedef {import("./types.js").RunData} RunData */
/** @typedef {import("./selection.js").Selection} Selection */

/**
 * @typedef {object} Subgroup
 * @property {boolean} selected only the texts that are selected
 * @property {number} code of the class whose share is compared
 * @property {Map<string, [number, number]>} ranges covariates and their bounds, both included
 */

/** @param {string} written @returns {Subgroup} */
export function readSubgroup(written) {
  /** @type {Subgroup} */
  const subgroup = { selected: false, code: 0, ranges: new Map() };
  for (const condition of written.split(";")) {
    const [name, value] = /** @type {[string, string | undefined]} */ (condition.split("=", 2));
    if (value === undefined) continue;
    if (value.includes("..")) addRange(subgroup.ranges, name, value);
    else if (name === "selection") subgroup.selected = value === "1";
    else if (name === "class" && /^\d+$/.test(value)) subgroup.code = Number(value);
  }
  return subgroup;
}

/** @param {Map<string, [number, number]>} ranges @param {string} name @param {string} value */
function addRange(ranges, name, value) {
  const [low, high] = /** @type {[string, string]} */ (value.split(".."));
  const bounds = [low === "" ? -Infinity : Number(low), high === "" ? Infinity : Number(high)];
  if (!bounds.some(Number.isNaN)) ranges.set(decoded(name), /** @type {[number, number]} */ (bounds));
}

/** @param {string} name */
function decoded(name) {
  return name.replace(/%(25|3B|3D)/g, decodeURIComponent);
}

/** @param {Subgroup} subgroup */
export function writeSubgroup({ selected, code, ranges }) {
  /** @param {number} end */
  const shown = (end) => (Number.isFinite(end) ? String(end) : "");
  const conditions = [...ranges].map(([name, [low, high]]) => `${encoded(name)}=${shown(low)}..${shown(high)}`);
  if (selected) conditions.push("selection=1");
  if (code) conditions.push(`class=${code}`);
  return conditions.join(";");
}

/** @param {string} name */
function encoded(name) {
  return name.replace(/[%;=]/g, encodeURIComponent);
}

/** Whether it leaves out any text. @param {Subgroup} subgroup @param {Selection} selection */
export function isNarrow({ selected, ranges }, selection) {
  return ranges.size > 0 || (selected && !selection.isEmpty);
}

/**
 * Positions of the texts of a subgroup. What a covariate does not say of a text is in no range.
 *
 * @param {RunData} data
 * @param {Subgroup} subgroup
 * @param {Selection} selection
 * @returns {Int32Array}
 */
export function rowsOfSubgroup(data, { selected, ranges }, selection) {
  const rows = selected ? selection.rows() : Int32Array.from({ length: data.n }, (_, i) => i);
  const conditions = data.covariates.flatMap(({ name, values }) => {
    const bounds = ranges.get(name);
    return bounds ? [{ values, low: bounds[0], high: bounds[1] }] : [];
  });
  return rows.filter((row) =>
    conditions.every(({ values, low, high }) => {
      const value = /** @type {number} */ (values[row]);
      return value >= low && value <= high;
    }),
  );
}
