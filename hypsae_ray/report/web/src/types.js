/**
 * What the modules of the page share: the data of a run, and the view that the reader has chosen.
 *
 * @typedef {Record<string, number | string | boolean | null>} Result
 * A row of the evaluation, columns as in evaluation.csv: regression_coef, regression_ci_low, significant, ...
 *
 * @typedef {object} Hypothesis
 * @property {number} id
 * @property {string} sentence  empty where no sentence was usable
 * @property {number} neuron
 * @property {number} threshold  P(yes) from which the label is yes
 * @property {string[]} terms  words that tell the texts on which the neuron fires, the heaviest first
 * @property {Result[]} results  one, or one for each class of the target
 * @property {{row_id: number, reason: string, quote: string}[]} reasons  what `hypsae explain` wrote
 * @property {Float32Array} pYes  (n,) NaN where there is no label; of pairs that of the first text
 * @property {Float32Array | null} pYesB  (n,) of pairs that of the second text
 * @property {Float32Array} activation  (n,) of its neuron
 *
 * @typedef {object} Neurons
 * @property {number[]} prefixLengths
 * @property {string[]} state  (M,) alive, dead or constant
 * @property {(number | null)[]} correlation  (M,) with the target
 * @property {(number | null)[]} rank  (M,) 0 for the neuron that was selected first, null if it was not
 * @property {Int32Array} level  (M,) the first prefix that holds it, from 0
 * @property {Int32Array} parent  (M,) the neuron of the prefix before it that fires with it most, or -1
 * @property {Float32Array} overlap  (M,) the share of its texts on which the parent fires
 * @property {Float32Array} share  (M,) the share of all texts on which it fires
 *
 * @typedef {object} RunData
 * @property {string} target  name of the column
 * @property {string} task  regression, classification, count, pairwise or multiclass
 * @property {string[] | null} classes  names of the codes of the target
 * @property {number} n  texts in the page
 * @property {number} nAll  labelled texts of the run
 * @property {"all" | "cut" | "ids" | "none"} policy  what the page may hold of each text
 * @property {string[] | null} ids  (n,)
 * @property {string[] | null} texts  (n,) null where the page holds none; of pairs the first
 * @property {string[] | null} textsB  (n,) of pairs the second
 * @property {Float64Array | null} rowId  (n,) null where the page holds no id
 * @property {Float64Array} values  (n,) the target; of classes their codes
 * @property {Float64Array | null} weights  (n,) of the design and the survey
 * @property {Int32Array | null} groups  (n,) codes
 * @property {{name: string, values: Float64Array}[]} covariates
 * @property {Float32Array} x  of the map
 * @property {Float32Array} y
 * @property {Hypothesis[]} hypotheses  in the order of their ids
 * @property {Neurons} neurons
 *
 * @typedef {object} View
 * @property {number | null} open  hypothesis whose drawer is open
 * @property {string} sort  column by which the hypotheses are sorted, with a minus for descending; "" as written
 * @property {string} find  words sought in the sentences
 * @property {string} filter  of the hypotheses: "significant=yes,sign=positive,fidelity=0.5"
 * @property {string} colour  of the map: target, or label:3, or activation:3 (number of a hypothesis)
 * @property {string} search  word, or regular expression between slashes, sought in the texts
 * @property {string} lasso  corners "x,y x,y" of the lasso on the map, in its units
 * @property {string} subgroup  conditions on covariates, "column=low..high" joined by semicolons
 * @property {string} thresholds  "3=0.7" joined by commas: changed thresholds of P(yes) by hypothesis
 *
 * @typedef {object} App
 * @property {RunData} data
 * @property {import("./state.js").State} state
 * @property {import("./selection.js").Selection} selection
 */
export {};
