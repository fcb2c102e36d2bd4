/** The view in the address of the page, and the link that leads back to it. */

import { byId, h } from "./dom.js";
import { offerFiles } from "./figure_files.js";

export { figureButtons } from "./figure_files.js";

/** @typedef {import("./types.js").App} App */

/** @param {App} app */
export function mountShare({ state }) {
  const keys = /** @type {(keyof import("./types.js").View)[]} */ (Object.keys(state.view));
  state.on(keys, () => write(state.hash()));
  // A link to a heading of the page leaves the view as it is.
  addEventListener("hashchange", () => {
    if (location.hash === "" || location.hash.startsWith("#view?")) state.restore(location.hash);
  });
  byId("share").append(...linkTools(() => location.href.replace(/#.*$/su, "") + state.hash()));
  offerFiles();
}

/** @param {string} hash */
function write(hash) {
  if (!hash && !location.hash.startsWith("#view?")) return;
  try {
    history.replaceState(null, "", hash || location.href.replace(/#.*$/su, ""));
  } catch {
    // Some browsers refuse it to files, or after a hundred times: the view is still what the reader sees.
  }
}

/** @param {() => string} link @returns {Node[]} */
function linkTools(link) {
  const status = h("span", { role: "status" });
  const field = h("input", { type: "text", readonly: true, hidden: true, "aria-label": "Link to this view" });
  const button = h("button", { type: "button", click: copy }, "Copy link to this view");
  async function copy() {
    field.hidden = true;
    try {
      await navigator.clipboard.writeText(link());
      status.textContent = "copied";
    } catch {
      field.hidden = false;
      field.value = link();
      field.select();
      status.textContent = "copy it from here";
    }
  }
  return [button, field, status];
}
