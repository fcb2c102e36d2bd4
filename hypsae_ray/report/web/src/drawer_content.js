/** What the drawer says of a hypothesis. */

import { format, h } from "./dom.js";
import { effectBlocks } from "./drawer_effects.js";
import { textList } from "./drawer_texts.js";
import { thresholdOf } from "./labels.js";
import { termPattern } from "./marking.js";
import { agreement, textLists } from "./text_lists.js";
import { count, plural, short } from "./words.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Hypothesis} Hypothesis */
/** @typedef {import("./types.js").RunData} RunData */

/** @param {App} app @param {Hypothesis} hypothesis @returns {Node[]} */
export function drawerContent({ data, state }, hypothesis) {
  const threshold = thresholdOf(hypothesis, state.view.thresholds);
  return [
    h("p", { class: "muted" }, about(hypothesis, threshold)),
    ...effectBlocks(data, hypothesis.results),
    ...doseCurves(hypothesis),
    ...agreementTable(data, hypothesis, threshold),
    ...textsOf(data, hypothesis, threshold),
  ];
}

/** @param {Hypothesis} hypothesis @param {number} threshold */
function about(hypothesis, threshold) {
  const own = hypothesis.threshold;
  const changed = threshold === own ? "" : `; the run has ${short(own)}, explored below: ${short(threshold)}`;
  const label = `label yes from a P(yes) of ${changed ? `${format(threshold)}${changed}` : short(own)}`;
  const terms = hypothesis.terms.length ? ` · telling terms: ${hypothesis.terms.join(", ")}` : "";
  return `#${hypothesis.id} · neuron ${count(hypothesis.neuron)} · ${label}${terms}`;
}

/** The curves that the page has of it, once more. @param {Hypothesis} hypothesis */
function doseCurves({ id }) {
  const found = [...document.querySelectorAll(`#dose figure[data-hypothesis="${id}"]`)];
  if (!found.length) return [];
  const curves = found.map((figure) => {
    const copy = /** @type {HTMLElement} */ (figure.cloneNode(true));
    copy.removeAttribute("data-hypothesis");
    for (const named of copy.querySelectorAll("[id]")) named.id = `drawer-${named.id}`;
    const name = copy.querySelector("figcaption .class");
    copy.querySelector("figcaption")?.replaceChildren(...(name ? [name] : []));
    return copy;
  });
  return [
    h("h3", {}, "Does more mean more?"),
    h("p", { class: "muted" }, "From the texts on which the neuron fires weakest to those on which it fires strongest; dashed: it is silent."),
    h("div", { class: "doses" }, ...curves),
  ];
}

/** @param {RunData} data @param {Hypothesis} hypothesis @param {number} threshold */
function agreementTable(data, hypothesis, threshold) {
  const found = agreement(data, hypothesis, threshold);
  const isPair = Boolean(hypothesis.pYesB);
  /** @param {string} name @param {number} yes @param {number} no */
  const row = (name, yes, no) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "num" }, count(yes)), h("td", { class: "num" }, count(no)));
  /** @param {string} name */
  const head = (name) => h("th", { scope: "col", class: "num" }, name);
  const [yes, no] = isPair ? ["texts differ", "do not"] : ["label yes", "label no"];
  return [
    h("h3", {}, "Label and neuron"),
    h(
      "table",
      { class: "agreement" },
      h("thead", {}, h("tr", {}, h("td"), head(yes), head(no))),
      h(
        "tbody",
        {},
        row(isPair ? "neuron tells them apart" : "neuron fires", found.yesFires, found.noFires),
        row(isPair ? "neuron does not" : "neuron is silent", found.yesSilent, found.noSilent),
      ),
    ),
    ...(found.none ? [h("p", { class: "muted" }, `${plural(found.none, "more has", "more have")} no label.`)] : []),
  ];
}

/** @param {RunData} data @param {Hypothesis} hypothesis @param {number} threshold */
function textsOf(data, hypothesis, threshold) {
  const lists = textLists(data, hypothesis, threshold);
  const pattern = termPattern(hypothesis.terms);
  const sample = data.n < data.nAll ? `Of ${count(data.n)} of the ${count(data.nAll)} labelled texts, drawn at random. ` : "";
  if (data.texts) return [...note(sample), ...lists.map((list) => textList(data, hypothesis, list, pattern))];
  if (data.ids) {
    return [...note(`${sample}The page holds no texts: their ids stand for them.`), ...lists.map((list) => textList(data, hypothesis, list, null))];
  }
  const counts = lists.map(({ title, rows }) => h("li", {}, `${title}: ${count(rows.length)}`));
  return [...note(`${sample}The page holds no texts, as report.texts wants it.`), h("ul", { class: "counts" }, ...counts)];
}

/** @param {string} sentence */
function note(sentence) {
  return sentence ? [h("p", { class: "muted" }, sentence)] : [];
}
