/** The neurons as a tree, from the shortest prefix of the Matryoshka SAE to the longest. */

import { byId, format, h, percent, signed } from "./dom.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Neurons} Neurons */
/** @typedef {(neuron: number) => boolean} Wanted */

const SHOWN = [
  ["chosen", "chosen, and those above them"],
  ["alive", "all that fire"],
  ["all", "all"],
];

/** @param {App} app */
export function mountNeurons(app) {
  const { neurons } = app.data;
  const tree = byId("neuron-tree");
  const draw = (/** @type {string} */ which) => tree.replaceChildren(branches(app, -1, wanted(neurons, which)));
  const change = (/** @type {{target: HTMLSelectElement}} */ event) => draw(event.target.value);
  const options = SHOWN.map(([value = "", label]) => h("option", { value }, label));
  byId("neuron-tools").append(
    h("p", { class: "muted" }, describe(neurons)),
    h("label", {}, "Show ", h("select", { change }, ...options)),
  );
  draw("chosen");
}

/** What there is, in a sentence or two. @param {Neurons} neurons */
function describe({ state, rank, level, parent, prefixLengths }) {
  const count = (/** @type {string} */ name) => state.filter((one) => one === name).length;
  const lengths = [...prefixLengths].sort((a, b) => a - b).join(", ");
  const later = [...level].filter((one) => one > 0).length;
  const below = [...parent].filter((one) => one >= 0).length;
  const silent = `dead, which never fire: ${count("dead")}; constant, which fire alike on every text: ${count("constant")}`;
  const chosen = rank.filter((one) => one !== null).length;
  const tree = later
    ? ` A neuron stands below the one of the prefix before it that fires on the most of its texts, if on a third or ` +
      `more: so do ${below} of the ${later} that longer prefixes add.`
    : "";
  return `${state.length} neurons, prefix lengths ${lengths}; ${silent}; chosen: ${chosen}.${tree}`;
}

/** @param {Neurons} neurons @param {string} which @returns {Wanted} */
function wanted(neurons, which) {
  if (which === "all") return () => true;
  if (which === "alive") return (neuron) => neurons.state[neuron] === "alive";
  const kept = new Set();
  neurons.rank.forEach((rank, neuron) => {
    for (let one = rank === null ? -1 : neuron; one >= 0; one = neurons.parent[one] ?? -1) kept.add(one);
  });
  return (neuron) => kept.has(neuron);
}

/** @param {App} app @param {number} parent  -1: those without one @param {Wanted} keep @returns {HTMLElement} */
function branches(app, parent, keep) {
  const { neurons } = app.data;
  const children = [...neurons.parent.keys()].filter((one) => neurons.parent[one] === parent && keep(one));
  children.sort((a, b) => (neurons.share[b] ?? 0) - (neurons.share[a] ?? 0));
  return h("ul", { class: "neurons" }, ...children.map((neuron) => item(app, neuron, keep)));
}

/** @param {App} app @param {number} neuron @param {Wanted} keep */
function item(app, neuron, keep) {
  const below = branches(app, neuron, keep);
  return h("li", {}, name(app, neuron), " ", h("small", {}, facts(app.data.neurons, neuron)), below.childElementCount > 0 && below);
}

/** The sentence of a neuron that has one, which opens its drawer; else its number. @param {App} app @param {number} neuron */
function name({ data, state }, neuron) {
  const one = data.hypotheses.find((hypothesis) => hypothesis.neuron === neuron);
  if (!one) return h("span", { class: "muted" }, `neuron ${neuron}`);
  return h("button", { class: "link", type: "button", click: () => state.set({ open: one.id }) }, one.sentence || `neuron ${neuron}`);
}

/** @param {Neurons} neurons @param {number} neuron */
function facts(neurons, neuron) {
  if (neurons.state[neuron] === "dead") return "dead";
  const parts = [`fires on ${percent(neurons.share[neuron] ?? NaN)}`];
  const correlation = neurons.correlation[neuron] ?? null;
  if (correlation !== null) parts.push(`correlation with the target ${signed(correlation)}`);
  const parent = neurons.parent[neuron] ?? -1;
  if (parent >= 0) parts.push(`${format(100 * (neurons.overlap[neuron] ?? NaN), 0)} % of its texts with neuron ${parent}`);
  if (neurons.rank[neuron] !== null) parts.push("chosen");
  return parts.join(" · ");
}
