// The events of a search, fetched a page at a time where they are looked at.

import { get } from "./api.js";

/** Events of one request. */
const PAGE = 200;
/** Pages that are kept; the one that was looked at longest ago goes first. */
const MAX_PAGES = 60;
/** Rows that a list has at most. The API skips no more than this. */
export const MAX_ROWS = 100_000;

/** @typedef {import("./api.js").Row} Row */

export class Pages {
  /** @type {Map<number, Row[]>} */
  #pages = new Map();
  /** @type {Map<number, string>} */
  #next = new Map();
  /** @type {Set<number>} */
  #asked = new Set();
  #abort = new AbortController();
  total = 0;
  isAtLeast = false;
  /** @type {Error | undefined} */
  error;

  /**
   * @param {import("./api.js").Params} params of `/api/logs` @param {() => void} onChange
   * @param {() => number} newer how many events have come since the first page, by which all others moved on
   */
  constructor(params, onChange, newer = () => 0) {
    this.params = params;
    this.onChange = onChange;
    this.newer = newer;
  }

  /** The highest number of an event of the first page. */
  get newestSeq() {
    return (this.#pages.get(0) ?? []).reduce((most, row) => Math.max(most, row.seq ?? 0), 0);
  }

  stop() {
    this.#abort.abort();
  }

  get count() {
    return Math.min(this.total, MAX_ROWS);
  }

  /** The first page, which says how many there are. */
  async first() {
    await this.#load(0);
    if (this.error) throw this.error;
  }

  /** @param {number} index @returns {Row | undefined} */
  row(index) {
    return this.#pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** How many rows are surely there. */
  #known() {
    return Math.max(0, ...[...this.#pages].map(([number, rows]) => number * PAGE + rows.length));
  }

  /** The row of an event that is there. @param {string} id */
  indexOf(id) {
    for (const [number, rows] of this.#pages) {
      const place = rows.findIndex((row) => String(row.id) === id);
      if (place >= 0) return number * PAGE + place;
    }
    return -1;
  }

  /** Fetches what is in sight. @param {number} first @param {number} last */
  want(first, last) {
    for (let number = Math.floor(first / PAGE); number <= Math.floor(last / PAGE); number++) {
      const known = this.#pages.get(number);
      if (known) {
        this.#pages.delete(number);
        this.#pages.set(number, known);
      } else if (number * PAGE < this.count) this.#load(number);
    }
  }

  /** @param {number} number */
  async #load(number) {
    if (this.#asked.has(number)) return;
    this.#asked.add(number);
    const cursor = number > 0 ? this.#next.get(number - 1) : undefined;
    // The first page begins with the newest event; the others moved on by what has come since.
    const offset = number === 0 ? 0 : Math.min(number * PAGE + this.newer(), MAX_ROWS);
    const where = cursor ? { cursor } : { offset: offset || undefined };
    try {
      const ask = (/** @type {object} */ where) => get("api/logs", { ...this.params, ...where }, { signal: this.#abort.signal });
      let answer = await ask({ limit: PAGE, ...where });
      // A search that reached its deadline goes on where it stopped.
      while (answer.is_partial && answer.next && answer.logs.length < PAGE) {
        const more = await ask({ limit: PAGE - answer.logs.length, cursor: answer.next });
        answer = { ...more, logs: [...answer.logs, ...more.logs] };
      }
      this.#pages.set(number, answer.logs);
      if (answer.next) this.#next.set(number, answer.next);
      if (number === 0) this.total = answer.total;
      this.isAtLeast = answer.total_is_at_least === true;
      // Events may be gone since they were counted.
      if (!answer.next) this.total = Math.min(this.total, Math.max(number * PAGE + answer.logs.length, this.#known()));
      while (this.#pages.size > MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value ?? 0);
      this.onChange();
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      this.error = /** @type {Error} */ (error);
      if (number > 0) this.onChange();
    } finally {
      this.#asked.delete(number);
    }
  }
}
