// Charts in small: lines without axes, days as bars, hours of the day, and shares as bars in tables.

import { h, s } from "../dom.js";
import { compact, number, percent, t } from "../i18n.js";

/** A line over values. @param {(number | null)[]} values @param {string} [kind] */
export function sparkline(values, kind = "accent") {
  const [width, height] = [120, 28];
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const [most, least] = [Math.max(...known), Math.min(0, ...known)];
  const x = (/** @type {number} */ nth) => (nth / (values.length - 1)) * (width - 4) + 2;
  const y = (/** @type {number} */ value) => height - 3 - ((value - least) / (most - least || 1)) * (height - 6);
  const points = values.map((value, nth) => (value === null ? null : `${x(nth).toFixed(1)},${y(value).toFixed(1)}`)).filter(Boolean);
  const area = `${points.join(" ")} ${x(values.length - 1)},${height} ${x(0)},${height}`;
  return s("svg", { class: `spark k-${kind}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("polygon", { points: area }), s("polyline", { points: points.join(" ") }));
}

/**
 * Bars side by side with a label below each; parts of a bar are stacked.
 * @param {{ label: string, title: string, parts: [string, number][], href?: string }[]} bars @param {{ label: string, every?: number }} shape
 */
export function columns(bars, { label, every = 1 }) {
  const most = Math.max(1, ...bars.map((bar) => sum(bar)));
  const body = bars.map((bar, nth) => {
    const stack = bar.parts.filter(([, count]) => count > 0).map(([kind, count]) => h("i", { class: `b-${kind}`, css: { height: `${(count / most) * 100}%` } }));
    const inside = [h("span", { class: "column-bars" }, ...stack), h("span", { class: "column-label" }, nth % every === 0 ? bar.label : "")];
    // Every second long label goes where there is no room for all.
    const name = bar.label.length > 3 && (nth / every) % 2 === 1 ? "column minor" : "column";
    return bar.href ? h("a", { class: name, href: bar.href, title: bar.title, "aria-label": bar.title }, ...inside) : h("div", { class: name, title: bar.title }, ...inside);
  });
  const scale = h("div", { class: "columns-scale", "aria-hidden": "true" }, h("span", {}, compact(most)), h("span", {}, compact(most / 2)), h("span", {}, number(0)));
  return h("div", { class: "columns-chart", role: "group", "aria-label": label }, h("div", { class: "columns" }, ...body), scale);
}

/** @param {{ parts: [string, number][] }} bar */
function sum(bar) {
  return bar.parts.reduce((all, [, count]) => all + count, 0);
}

/** A line over days with its scale. @param {(number | null)[]} values @param {string[]} labels @param {{ label: string, show: (value: number) => string }} shape */
export function trend(values, labels, { label, show }) {
  const known = /** @type {number[]} */ (values.filter((value) => value !== null));
  const most = Math.max(1, ...known);
  const [width, height] = [600, 120];
  const x = (/** @type {number} */ nth) => (values.length < 2 ? width / 2 : (nth / (values.length - 1)) * width);
  const y = (/** @type {number} */ value) => height - (value / most) * (height - 8);
  const points = values.flatMap((value, nth) => (value === null ? [] : [`${x(nth).toFixed(1)},${y(value).toFixed(1)}`]));
  const svg = s("svg", { class: "trend", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${known.length ? show(known[known.length - 1]) : "–"}` },
    s("line", { class: "grid", x1: 0, x2: width, y1: y(most), y2: y(most) }), s("line", { class: "grid", x1: 0, x2: width, y1: y(most / 2), y2: y(most / 2) }), s("line", { class: "base", x1: 0, x2: width, y1: height, y2: height }),
    // Of one day alone it is a dot: its line has no length, and round ends.
    s("polyline", { class: points.length === 1 ? "dot" : "", points: (points.length === 1 ? [...points, ...points] : points).join(" ") }));
  const scale = h("div", { class: "columns-scale", "aria-hidden": "true" }, h("span", {}, show(most)), h("span", {}, show(most / 2)), h("span", {}, show(0)));
  const ends = h("div", { class: "trend-labels", "aria-hidden": "true" }, h("span", {}, labels[0] ?? ""), h("span", {}, labels[labels.length - 1] ?? ""));
  return h("div", { class: "columns-chart" }, h("div", { class: "trend-place" }, svg, ends), scale);
}

/** A bar behind a number of a table. @param {number} value @param {number} most */
export function share(value, most) {
  return h("span", { class: "share" }, h("span", { class: "share-track" }, h("i", { css: { width: `${most > 0 ? (value / most) * 100 : 0}%` } })), h("span", {}, number(value)));
}

/** Full, in words and as a bar. @param {string} name @param {number | null} part @param {number | null} whole @param {(value: number) => string} show */
export function meter(name, part, whole, show) {
  const rate = part !== null && whole ? Math.min(100, (part / whole) * 100) : null;
  return h("div", { class: "meter" }, h("div", { class: "meter-text" }, h("span", {}, name), h("span", { class: "num" }, part === null ? "–" : show(part), whole ? h("span", { class: "muted" }, ` ${t("of")} ${show(whole)}`) : "")),
    rate !== null && h("div", { class: `meter-bar${rate > 90 ? " full" : ""}`, role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(rate), "aria-valuetext": percent(rate) }, h("i", { css: { width: `${rate}%` } })));
}
