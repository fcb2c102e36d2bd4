/** The data block of the page, read back; `page_data.py` says how it is laid out. */

/** @typedef {import("./types.js").RunData} RunData */
/** @typedef {{type: "f32" | "f64" | "i32", at: number, length: number}} Place */
/** @typedef {{get: (name: string) => any, has: (name: string) => boolean}} Columns */

const ARRAYS = { f32: Float32Array, f64: Float64Array, i32: Int32Array };

/** @param {string} text  base64 of gzip @returns {Promise<RunData>} */
export async function readData(text) {
  const buffer = await unpack(text);
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  /** @type {Record<string, Place>} */
  const places = header.columns;
  /** @type {Columns} */
  const columns = {
    has: (name) => name in places,
    get: (name) => {
      const place = places[name];
      return place ? new ARRAYS[place.type](buffer, 4 + length + place.at, place.length) : null;
    },
  };
  return build(header, columns);
}

/** @param {string} text @returns {Promise<ArrayBuffer>} */
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** @param {any} header @param {Columns} columns @returns {RunData} */
function build(header, columns) {
  return {
    target: header.target,
    task: header.task,
    classes: header.classes,
    n: header.n,
    nAll: header.n_all,
    policy: header.policy,
    ids: header.ids ?? null,
    texts: header.texts ?? null,
    textsB: header.texts_b ?? null,
    rowId: columns.get("row_id"),
    values: columns.get("target"),
    weights: columns.get("weight"),
    groups: columns.get("group"),
    covariates: header.covariate_names.map((/** @type {string} */ name, /** @type {number} */ i) => ({
      name, values: columns.get(`covariate:${i}`),
    })),
    x: columns.get("x"),
    y: columns.get("y"),
    hypotheses: header.hypotheses.map((/** @type {any} */ one, /** @type {number} */ j) => ({
      ...one,
      pYes: columns.get(`p_yes:${j}`),
      pYesB: columns.get(`p_yes_b:${j}`),
      activation: columns.get(`activation:${j}`),
    })),
    neurons: {
      prefixLengths: header.neurons.prefix_lengths,
      state: header.neurons.state,
      correlation: header.neurons.correlation,
      rank: header.neurons.rank,
      level: columns.get("neuron_level"),
      parent: columns.get("neuron_parent"),
      overlap: columns.get("neuron_overlap"),
      share: columns.get("neuron_share"),
    },
  };
}
