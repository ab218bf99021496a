// Counts over time as stacked bars: hover tells the numbers, and drawing over it chooses a time.

import { h, s, replace } from "./dom.js";
import { compact, number, t, time, word } from "./i18n.js";
import { STATUSES, statusClass } from "./parts.js";
import { settings } from "./settings.js";

const HEIGHT = 88;
const [TOP, BOTTOM, SIDE] = [6, 18, 40];
/** Milliseconds between two drawings while events come. */
const LIVE_EVERY = 500;
/** Bars that a live chart grows to before it asks for wider ones. */
const MAX_BARS = 180;

/** @typedef {{ start: number, counts: Map<string, number>, total: number }} Bar */

export class Histogram {
  /** @type {Bar[]} */
  #bars = [];
  #interval = 1000;
  #from = 0;
  #to = 1;
  #width = 0;
  #isPlanned = false;
  /** @type {number | undefined} */
  #brush;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #later;

  /** @param {(from: number, to: number) => void} onBrush @param {() => void} onFull */
  constructor(onBrush, onFull) {
    this.onBrush = onBrush;
    this.onFull = onFull;
    this.svg = s("svg", { class: "histogram-bars", height: HEIGHT, role: "img" });
    this.tip = h("div", { class: "tip", hidden: true });
    this.table = h("table", { class: "hidden-text" });
    this.element = h("div", { class: "histogram" }, this.svg, this.tip, h("div", { class: "table-clip" }, this.table));
    this.observer = new ResizeObserver(() => this.#plan());
    this.observer.observe(this.element);
    this.#listen();
  }

  destroy() {
    clearTimeout(this.#later);
    this.observer.disconnect();
  }

  /** @param {any} answer of `/api/logs/histogram` @param {{ from?: number, to?: number }} span */
  show(answer, span) {
    this.#interval = answer.interval_ms;
    this.#bars = answer.buckets.map((/** @type {any} */ bucket) => ({
      start: Date.parse(bucket.start), counts: new Map(Object.entries(bucket.by_status)), total: bucket.count,
    }));
    const last = this.#bars[this.#bars.length - 1];
    this.#from = span.from ?? this.#bars[0]?.start ?? 0;
    this.#to = Math.max(span.to ?? Date.now(), (last?.start ?? 0) + (span.to ? 0 : this.#interval));
    // Where time is open and what happened is long ago, the chart is about that.
    if (span.from === undefined && last) this.#to = last.start + this.#interval;
    // Bars are shown whole.
    if (this.#bars[0]) this.#from = Math.min(this.#from, this.#bars[0].start);
    if (last) this.#to = Math.max(this.#to, last.start + this.#interval);
    this.#plan();
  }

  /** Counts an event that has just come. @param {number} at @param {string} status */
  add(at, status) {
    if (this.#bars.length === 0) return this.onFull();
    const start = Math.floor(at / this.#interval) * this.#interval;
    let bar = this.#bars.findLast((one) => one.start <= at && at < one.start + this.#interval);
    if (!bar) {
      bar = { start, counts: new Map(), total: 0 };
      this.#bars.push(bar);
      this.#bars.sort((a, b) => a.start - b.start);
    }
    bar.counts.set(status, (bar.counts.get(status) ?? 0) + 1);
    bar.total++;
    this.#to = Math.max(this.#to, start + this.#interval);
    if ((this.#to - this.#from) / this.#interval > MAX_BARS) this.onFull();
    if (this.#later) return;
    this.#later = setTimeout(() => {
      this.#later = undefined;
      this.#plan();
    }, LIVE_EVERY);
  }

  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => {
      this.#isPlanned = false;
      this.#draw();
    });
  }

  /** @param {number} at */
  #x(at) {
    return ((at - this.#from) / (this.#to - this.#from)) * this.#width;
  }

  #draw() {
    const full = this.element.clientWidth;
    if (full === 0) return;
    this.#width = full - SIDE;
    const most = Math.max(1, ...this.#bars.map((bar) => bar.total));
    const room = HEIGHT - TOP - BOTTOM;
    const grid = (this.#bars.length > 0 ? [0.5, 1] : []).map((share) => {
      const y = HEIGHT - BOTTOM - room * share;
      return s("g", {}, s("line", { class: "grid", x1: 0, x2: this.#width, y1: y, y2: y }),
        s("text", { class: "axis", x: this.#width + 6, y: y + 4 }, compact(most * share)));
    });
    const bars = this.#bars.map((bar) => this.#bar(bar, room / most));
    this.svg.setAttribute("width", String(full));
    this.svg.setAttribute("aria-label", this.#summary());
    const base = s("line", { class: "base", x1: 0, x2: this.#width, y1: HEIGHT - BOTTOM + 0.5, y2: HEIGHT - BOTTOM + 0.5 });
    if (this.#bars.length === 0) return replace(this.svg, base);
    this.brush = s("rect", { class: "brush", y: TOP, height: room, width: 0 });
    replace(this.svg, ...grid, ...bars, base, ...this.#ticks(), this.brush);
    this.#tell();
  }

  /** @param {Bar} bar @param {number} scale */
  #bar(bar, scale) {
    const left = this.#x(bar.start);
    const width = Math.max(1.5, this.#x(bar.start + this.#interval) - left - 1);
    let y = HEIGHT - BOTTOM;
    const group = s("g", {});
    for (const status of STATUSES) {
      const count = [...bar.counts].reduce((sum, [name, some]) => (statusClass(name) === status ? sum + some : sum), 0);
      if (count === 0) continue;
      const height = Math.max(1, count * scale);
      y -= height;
      group.append(s("rect", { class: `b-${status}`, x: left.toFixed(1), y: y.toFixed(1), width: width.toFixed(1), height: height.toFixed(1) }));
    }
    return group;
  }

  #ticks() {
    return ticks(this.#from, this.#to, Math.max(2, this.#width / 90)).map(({ at, shape }) => [
      s("line", { class: "base", x1: this.#x(at), x2: this.#x(at), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }),
      s("text", { class: "axis", x: this.#x(at), y: HEIGHT - 4, "text-anchor": "middle" }, time(at, shape)),
    ]).flat();
  }

  #summary() {
    const total = this.#bars.reduce((sum, bar) => sum + bar.total, 0);
    return t("histogram.summary", { n: total, from: time(this.#from, "minute"), to: time(this.#to, "minute") });
  }

  /** The same numbers for those who do not see bars. */
  #tell() {
    const rows = this.#bars.slice(-MAX_BARS).map((bar) => h("tr", {}, h("th", { scope: "row" }, time(bar.start, "minute")), h("td", {}, number(bar.total)),
      h("td", {}, number(bar.counts.get("error") ?? 0))));
    replace(this.table, h("caption", {}, this.#summary()),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("col.time")), h("th", { scope: "col" }, t("col.events")), h("th", { scope: "col" }, word("status", "error")))), h("tbody", {}, ...rows));
  }

  #listen() {
    const at = (/** @type {PointerEvent} */ event) => {
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      return this.#from + (Math.max(0, Math.min(x, this.#width)) / this.#width) * (this.#to - this.#from);
    };
    const svg = /** @type {SVGElement} */ (this.svg);
    svg.addEventListener("pointerdown", (event) => {
      if (this.#bars.length === 0 || event.button !== 0) return;
      this.#brush = at(event);
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      if (this.#brush !== undefined) this.#drawBrush(this.#brush, at(event));
      this.#hover(at(event));
    });
    svg.addEventListener("pointerleave", () => (this.tip.hidden = true));
    svg.addEventListener("pointerup", (event) => {
      if (this.#brush === undefined) return;
      const [from, to] = [this.#brush, at(event)].sort((a, b) => a - b);
      this.#brush = undefined;
      // A click means the bar under it.
      if (this.#x(to) - this.#x(from) < 4) {
        const bar = this.#under(from);
        if (bar) this.onBrush(bar.start, bar.start + this.#interval);
      } else this.onBrush(from, to);
    });
  }

  /** @param {number} a @param {number} b */
  #drawBrush(a, b) {
    const [from, to] = [this.#x(a), this.#x(b)].sort((one, other) => one - other);
    this.brush?.setAttribute("x", String(from));
    this.brush?.setAttribute("width", String(to - from));
  }

  /** @param {number} at */
  #under(at) {
    return this.#bars.find((bar) => bar.start <= at && at < bar.start + this.#interval);
  }

  /** @param {number} at */
  #hover(at) {
    const bar = this.#under(at);
    this.tip.hidden = !bar;
    if (!bar) return;
    const counts = [...bar.counts].map(([status, count]) => h("div", { class: `s-${statusClass(status)}` }, h("i", { class: "dot" }), `${word("status", status)} `, h("b", {}, number(count))));
    replace(this.tip, h("div", { class: "muted" }, time(bar.start, this.#interval < 60_000 ? "seconds" : "minute")), ...counts);
    const x = this.#x(bar.start + this.#interval / 2);
    this.tip.style.left = `${Math.max(0, Math.min(x - 70, this.#width - 140))}px`;
  }
}

/** Distances of marks on the axis, in seconds. */
const STEPS = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000];

/**
 * Marks at full minutes, hours or days of the zone, at most so many.
 * @param {number} from @param {number} to @param {number} most
 */
export function ticks(from, to, most) {
  const span = to - from;
  const step = 1000 * (STEPS.find((seconds) => span / (seconds * 1000) <= most) ?? STEPS[STEPS.length - 1]);
  const offset = offsetAt(from);
  const shape = step >= 86_400_000 ? "day" : step >= 60_000 ? "clock" : "seconds";
  const marks = [];
  for (let at = Math.ceil((from + offset) / step) * step - offset; at < to; at += step) {
    // Half a label would stand outside.
    if (at - from > span * 0.02 && to - at > span * 0.02) marks.push({ at, shape: (at + offset) % 86_400_000 === 0 ? "day" : shape });
  }
  return marks;
}

/** By how much the zone of the page is before UTC, in milliseconds. @param {number} at */
function offsetAt(at) {
  return settings.zone === "utc" ? 0 : -new Date(at).getTimezoneOffset() * 60_000;
}
