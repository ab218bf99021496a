// A list of any length of which only the rows in sight exist.

import { h } from "./dom.js";

/** Rows that exist above and below those in sight. */
const MARGIN = 8;

/**
 * @typedef {object} Source
 * @property {() => number} count
 * @property {(row: HTMLElement, index: number) => void} draw fills a row, which may have been another one's before
 * @property {(row: HTMLElement) => void} make builds the inside of a new row
 * @property {(first: number, last: number) => void} [seen] is told which rows are in sight
 */

export class VirtualList {
  /** @type {HTMLElement[]} */
  #rows = [];
  /** Which index each row shows; -1 for none. @type {number[]} */
  #shown = [];
  #isPlanned = false;
  /** The row that the keyboard is at; -1 for none. */
  selected = -1;

  /** @param {Source} source @param {{ label: string, height: number, columns: number }} shape */
  constructor(source, shape) {
    this.source = source;
    this.height = shape.height;
    this.space = h("div", { class: "list-space", role: "presentation" });
    this.element = h("div", { class: "list", role: "grid", tabindex: 0, "aria-label": shape.label, "aria-colcount": shape.columns }, this.space);
    this.element.addEventListener("scroll", () => this.#plan(), { passive: true });
    this.observer = new ResizeObserver(() => this.#plan());
    this.observer.observe(this.element);
  }

  destroy() {
    this.observer.disconnect();
  }

  /** Shows everything anew: rows have come, gone or changed. */
  refresh() {
    const count = this.source.count();
    this.space.style.height = `${count * this.height}px`;
    this.element.setAttribute("aria-rowcount", String(count));
    this.#shown.fill(-1);
    this.#plan();
  }

  /** Draws one row again, if it is in sight. @param {number} index */
  redraw(index) {
    const place = this.#shown.indexOf(index);
    if (place >= 0) this.#draw(place, index);
  }

  get isAtTop() {
    return this.element.scrollTop < this.height;
  }

  /** Keeps what is in sight where it is while rows come above it. @param {number} count */
  shift(count) {
    if (this.selected >= 0) this.selected += count;
    if (!this.isAtTop) this.element.scrollTop += count * this.height;
  }

  /** @param {number} index */
  select(index) {
    const last = this.source.count() - 1;
    const before = this.selected;
    this.selected = Math.max(-1, Math.min(index, last));
    this.redraw(before);
    if (this.selected < 0) return;
    const top = this.selected * this.height;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.element.scrollTop = top + this.height - clientHeight;
    this.redraw(this.selected);
    this.#plan();
  }

  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => {
      this.#isPlanned = false;
      this.#layout();
    });
  }

  #layout() {
    const { scrollTop, clientHeight } = this.element;
    const wanted = Math.ceil(clientHeight / this.height) + 1 + 2 * MARGIN;
    while (this.#rows.length < wanted) this.#grow();
    const size = this.#rows.length;
    const count = this.source.count();
    const first = Math.max(0, Math.min(Math.floor(scrollTop / this.height) - MARGIN, Math.max(0, count - size)));
    for (let index = first; index < first + size; index++) {
      const place = index % size;
      if (index >= count) this.#hide(place);
      else if (this.#shown[place] !== index) this.#draw(place, index);
    }
    if (count > 0) {
      const top = Math.floor(scrollTop / this.height);
      this.source.seen?.(top, Math.min(count - 1, top + Math.ceil(clientHeight / this.height)));
    }
  }

  #grow() {
    const row = h("div", { class: "row", role: "row", id: `row-${this.#rows.length}` });
    this.source.make(row);
    this.space.append(row);
    this.#rows.push(row);
    this.#shown = this.#rows.map(() => -1);
  }

  /** @param {number} place */
  #hide(place) {
    this.#shown[place] = -1;
    this.#rows[place].hidden = true;
  }

  /** @param {number} place @param {number} index */
  #draw(place, index) {
    const row = this.#rows[place];
    this.#shown[place] = index;
    row.hidden = false;
    row.style.transform = `translateY(${index * this.height}px)`;
    row.dataset.index = String(index);
    row.setAttribute("aria-rowindex", String(index + 1));
    const isSelected = index === this.selected;
    row.classList.toggle("selected", isSelected);
    row.setAttribute("aria-selected", String(isSelected));
    if (isSelected) this.element.setAttribute("aria-activedescendant", row.id);
    this.source.draw(row, index);
  }
}
