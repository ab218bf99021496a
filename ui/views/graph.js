// The pipeline as a graph: sources, transforms and sinks from one side to the other, with what goes through each.

import { s } from "../dom.js";
import { compact, t } from "../i18n.js";
import { oneLine } from "../text.js";
import { lastError, rateText, stateKind } from "./operate.js";
import { GAP_Y, HEIGHT, passing } from "./passing.js";

const [WIDTH, GAP_X] = [176, 64];

/** @typedef {{ name: string, kind: string, type: string, state: string, column: number, row: number, component: any }} Node_ */

/** Which component reads which, from the configuration. @param {any[]} components @param {any} config @returns {[string, string][]} */
export function edges(components, config) {
  const names = components.map((one) => one.name);
  /** @type {[string, string][]} */
  const found = [];
  for (const one of components) {
    const inputs = one.inputs ?? config?.transforms?.[one.name]?.inputs ?? config?.sinks?.[one.name]?.inputs ?? [];
    for (const input of Array.isArray(inputs) ? inputs : [inputs]) {
      const pattern = new RegExp(`^${String(input).replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*")}$`);
      const exact = names.filter((name) => name !== one.name && pattern.test(name));
      // The output of a route is `name.output`.
      const of = exact.length > 0 ? exact : names.filter((name) => String(input).startsWith(`${name}.`));
      for (const name of of) found.push([name, one.name]);
    }
  }
  return found;
}

/** The column of each component: one behind the last that it reads. @param {any[]} components @param {[string, string][]} links */
export function columnsOf(components, links) {
  const column = new Map(components.map((one) => [one.name, 0]));
  for (let round = 0; round < components.length; round++) {
    let isDone = true;
    for (const [from, to] of links) {
      const wanted = (column.get(from) ?? 0) + 1;
      if ((column.get(to) ?? 0) < wanted && wanted <= components.length) {
        column.set(to, wanted);
        isDone = false;
      }
    }
    if (isDone) break;
  }
  const last = Math.max(0, ...column.values());
  for (const one of components) if (one.kind === "sink") column.set(one.name, Math.max(last, 1));
  return column;
}

/** @param {any[]} components @param {any} config */
export function graph(components, config) {
  const links = edges(components, config);
  const column = columnsOf(components, links);
  const isRight = document.documentElement.dir === "rtl";
  const last = Math.max(...column.values());
  /** @type {Map<string, { x: number, y: number, one: any }>} */
  const places = new Map();
  const rows = new Map();
  for (const one of components) rows.set(column.get(one.name), [...(rows.get(column.get(one.name)) ?? []), one]);
  const tallest = Math.max(...[...rows.values()].map((all) => all.length));
  for (const [at, all] of rows) {
    const start = ((tallest - all.length) * (HEIGHT + GAP_Y)) / 2;
    all.forEach((/** @type {any} */ one, /** @type {number} */ nth) => places.set(one.name, { x: (isRight ? last - at : at) * (WIDTH + GAP_X), y: start + nth * (HEIGHT + GAP_Y), one }));
  }
  const [width, height] = [(last + 1) * (WIDTH + GAP_X) - GAP_X, tallest * (HEIGHT + GAP_Y) - GAP_Y];
  const inColumn = Array.from({ length: last + 1 }, (_, at) => (rows.get(at) ?? []).map((/** @type {any} */ one) => places.get(one.name)));
  const lines = links.map(([from, to]) => link(places.get(from), places.get(to), inColumn.slice((column.get(from) ?? 0) + 1, column.get(to)), isRight));
  const boxes = [...places.values()].map(box);
  const svg = s("svg", { class: "graph", viewBox: `-2 ${-GAP_Y} ${width + 4} ${height + 2 * GAP_Y}`, width: width + 4, height: height + 2 * GAP_Y, role: "img", "aria-label": t("operate.graph", { n: components.length }), direction: "ltr" }, ...lines, ...boxes);
  const place = document.createElement("div");
  place.className = "graph-place";
  place.tabIndex = 0;
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", t("operate.pipeline"));
  place.append(svg);
  return place;
}

/**
 * A line that passes by what stands in the columns between.
 * @param {any} from @param {any} to @param {{ x: number, y: number }[][]} between @param {boolean} isRight
 */
function link(from, to, between, isRight) {
  if (!from || !to) return null;
  const [x1, x2] = isRight ? [from.x, to.x + WIDTH] : [from.x + WIDTH, to.x];
  const [y1, y2] = [from.y + HEIGHT / 2, to.y + HEIGHT / 2];
  const rate = from.one.rates?.left ?? from.one.rates?.received ?? 0;
  let [path, x, y] = [`M${x1} ${y1}`, x1, y1];
  const curve = (/** @type {number} */ toX, /** @type {number} */ toY) => {
    const middle = (x + toX) / 2;
    path += `C${middle} ${y} ${middle} ${toY} ${toX} ${toY}`;
    [x, y] = [toX, toY];
  };
  for (const [nth, boxes] of between.entries()) {
    if (boxes.length === 0) continue;
    const [start, end] = isRight ? [boxes[0].x + WIDTH, boxes[0].x] : [boxes[0].x, boxes[0].x + WIDTH];
    curve(start, passing(y + (y2 - y) / (between.length - nth + 1), boxes));
    path += `L${end} ${y}`;
    x = end;
  }
  curve(x2, y2);
  return s("path", { class: `edge${rate > 0 ? " flowing" : ""}`, d: path });
}

/** A text in the direction of the page, where everything around it goes from left to right. @param {string} text */
function isolated(text) {
  return document.documentElement.dir === "rtl" ? `\u2067${text}\u2069` : text;
}

/** @param {{ x: number, y: number, one: any }} place */
function box({ x, y, one }) {
  const counts = one.accounting ?? {};
  const waiting = one.kind === "sink" && counts.waiting > 0 ? ` · ${t("operate.waiting", { n: compact(counts.waiting) })}` : "";
  return s("g", { class: `node n-${one.kind}`, transform: `translate(${x} ${y})` }, s("title", {}, oneLine(`${one.name} (${one.type}) ${one.state} ${lastError(one)}`, 500)),
    s("rect", { class: "node-box", width: WIDTH, height: HEIGHT, rx: 6 }), s("circle", { class: `node-dot f-${stateKind(one.state)}`, cx: 16, cy: 18, r: 4 }),
    s("text", { class: "node-name", x: 28, y: 22 }, oneLine(one.name, 18)), s("text", { class: "node-type", x: WIDTH - 12, y: 22, "text-anchor": "end" }, oneLine(one.type, 12) === one.name ? "" : oneLine(one.type, 12)),
    s("text", { class: "node-rate", x: 28, y: 41 }, isolated(rateText(one) + waiting)));
}
