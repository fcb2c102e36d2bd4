/** The view that the reader has chosen. It is kept in the address of the page, so that a link leads back to it. */

/** @typedef {import("./types.js").View} View */

/** @type {View} */
const START = {
  open: null, sort: "", find: "", filter: "", colour: "target", search: "", lasso: "", subgroup: "", thresholds: "",
};

export class State {
  /** @param {string} hash  of the address: "#view?open=3&colour=label:3" */
  constructor(hash) {
    this.view = read(hash);
    /** @type {{keys: (keyof View)[], run: () => void}[]} */
    this.listeners = [];
  }

  /**
   * Change some of the view; listeners to what has changed are called once each.
   * @param {Partial<View>} patch
   */
  set(patch) {
    const before = this.view;
    this.view = { ...before, ...patch };
    const changed = keysOf(START).filter((key) => before[key] !== this.view[key]);
    for (const one of this.listeners) if (one.keys.some((key) => changed.includes(key))) one.run();
  }

  /**
   * Call a function whenever one of these parts of the view changes, and once now.
   * @param {(keyof View)[]} keys
   * @param {() => void} run
   */
  on(keys, run) {
    this.listeners.push({ keys, run });
    run();
  }

  /** The hash of the address for the present view: what is as at the start is left out. */
  hash() {
    const query = new URLSearchParams();
    for (const key of keysOf(START)) {
      const value = this.view[key];
      if (value !== START[key] && value !== null) query.set(key, String(value));
    }
    const text = query.toString();
    return text ? `#view?${text}` : "";
  }

  /** Take the view of another hash. @param {string} hash */
  restore(hash) {
    this.set(read(hash));
  }
}

/** @param {string} hash @returns {View} */
function read(hash) {
  const view = { ...START };
  if (!hash.startsWith("#view?")) return view;
  const query = new URLSearchParams(hash.slice("#view?".length));
  for (const key of keysOf(START)) {
    const value = query.get(key);
    if (value === null) continue;
    if (key === "open") view.open = /^\d+$/.test(value) ? Number(value) : null;
    else view[key] = value;
  }
  return view;
}

/** @param {View} view @returns {(keyof View)[]} */
function keysOf(view) {
  return /** @type {(keyof View)[]} */ (Object.keys(view));
}
