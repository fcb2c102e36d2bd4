/** The drawer of one hypothesis: what was found of it, and the texts behind it. */

import { h } from "./dom.js";
import { drawerContent } from "./drawer_content.js";

/** @typedef {import("./types.js").App} App */

const ROWS = "#hypotheses tr[data-hypothesis]";

/** @param {App} app */
export function mountDrawer(app) {
  addOpeners(app);
  const drawer = new Drawer(app);
  app.state.on(["open", "thresholds"], () => drawer.show());
}

/** The sentence of each row becomes a button; a click anywhere in the row does the same. @param {App} app */
function addOpeners({ state }) {
  for (const row of rows()) {
    row.classList.add("opens");
    const sentence = sentenceOf(row);
    if (!sentence) continue;
    const button = h("button", { type: "button", class: "opener", "aria-haspopup": "dialog" });
    sentence.replaceWith(button);
    button.append(sentence);
    row.addEventListener("click", (event) => {
      const aim = event.target instanceof Element ? event.target.closest("a, button, input, select") : null;
      if ((aim && aim !== button) || String(getSelection())) return;
      button.focus();
      state.set({ open: idOf(row) });
    });
  }
}

/** @returns {HTMLElement[]} */
function rows() {
  return [...document.querySelectorAll(ROWS)].filter((row) => row instanceof HTMLElement);
}

/** @param {HTMLElement} row */
function idOf(row) {
  return Number(row.dataset.hypothesis);
}

/** What the cell of the sentence says before its small print. @param {HTMLElement} row */
function sentenceOf(row) {
  const nodes = [...(row.querySelector(".sentence")?.childNodes ?? [])];
  return nodes.find((node) => node.nodeName === "EM" || (node.nodeType === Node.TEXT_NODE && node.textContent?.trim()));
}

class Drawer {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.title = h("h2", { id: "drawer-title", tabindex: -1, autofocus: true, "aria-live": "polite" });
    this.content = h("div", { class: "drawer-content" });
    this.place = h("span", { class: "place" });
    const close = () => this.app.state.set({ open: null });
    const bar = h(
      "div",
      { class: "drawer-bar" },
      h("button", { type: "button", "aria-label": "previous hypothesis", click: () => this.step(-1) }, "←"),
      h("button", { type: "button", "aria-label": "next hypothesis", click: () => this.step(1) }, "→"),
      this.place,
      h("button", { type: "button", class: "close", "aria-label": "close", click: close }, "×"),
    );
    const inside = h("div", { class: "drawer-inside" }, bar, this.title, this.content);
    this.dialog = h("dialog", { class: "drawer", "aria-labelledby": this.title.id, close: () => this.dialog.open || close() }, inside);
    // Outside of what is inside is the backdrop.
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && close());
    document.body.append(this.dialog);
  }

  /** Ids in the order of the rows that are shown. */
  get order() {
    const all = rows();
    const shown = all.filter((row) => !row.hidden);
    const ids = [...new Set(shown.map(idOf))];
    const { open } = this.app.state.view;
    return open === null || ids.includes(open) ? ids : [...new Set(all.map(idOf))];
  }

  /** @param {number} by */
  step(by) {
    const { order } = this;
    const at = order.indexOf(this.app.state.view.open ?? NaN);
    this.app.state.set({ open: order[(at + by + order.length) % order.length] ?? null });
  }

  /** What the view says. */
  show() {
    const { data, state } = this.app;
    const hypothesis = data.hypotheses.find(({ id }) => id === state.view.open);
    if (!hypothesis) return this.dialog.close();
    const { order } = this;
    this.title.textContent = hypothesis.sentence || "no usable sentence";
    this.place.textContent = `${order.indexOf(hypothesis.id) + 1} of ${order.length}`;
    this.content.replaceChildren(...drawerContent(this.app, hypothesis));
    if (!this.dialog.open) this.open();
  }

  open() {
    const before = document.activeElement;
    this.dialog.showModal();
    // The browser gives focus back to what had it; where nothing had, the row of the hypothesis gets it.
    if (before && before !== document.body) return;
    const id = this.app.state.view.open;
    const give = () => rows().find((row) => idOf(row) === id)?.querySelector("button")?.focus();
    this.dialog.addEventListener("close", give, { once: true });
  }
}
