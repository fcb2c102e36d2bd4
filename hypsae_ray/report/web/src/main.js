/** What makes the report one that people explore. Without it the page is as complete as a printed one. */

import { readData } from "./data.js";
import { mountDrawer } from "./drawer.js";
import { figure } from "./figure.js";
import { mountHypotheses } from "./hypotheses.js";
import { mountMap } from "./map.js";
import { mountNeurons } from "./neurons.js";
import { Selection } from "./selection.js";
import { mountShare } from "./share.js";
import { State } from "./state.js";
import * as statistics from "./statistics.js";
import { mountTable } from "./table.js";
import { mountWhatIf } from "./what_if.js";

/** @param {string} packed  the data block */
async function start(packed) {
  const data = await readData(packed);
  const state = new State(location.hash);
  const app = { data, state, selection: new Selection(data, state) };
  hypsae.app = app;
  for (const hidden of document.querySelectorAll(".with-script")) hidden.removeAttribute("hidden");
  for (const mount of [mountHypotheses, mountDrawer, mountMap, mountTable, mountWhatIf, mountNeurons, mountShare]) {
    mount(app);
  }
  document.documentElement.dataset.ready = "yes";
}

/**
 * Nothing else of the page is global. The tests call these, so that what they test is what is shipped.
 * @type {{figure: typeof figure, statistics: typeof statistics, app?: import("./types.js").App}}
 */
const hypsae = { figure, statistics };
Object.assign(globalThis, { hypsae });

const packed = document.getElementById("run-data")?.textContent;
if (packed) start(packed);
