// Events over time in lanes, as long as they took.

import { h, s } from "../dom.js";
import { duration, millis, t, time, word } from "../i18n.js";
import { format } from "../state.js";
import { oneLine } from "../text.js";
import { statusClass } from "../parts.js";
import { ticks } from "../histogram.js";

/** Lanes that are drawn; the others are counted. */
const MAX_LANES = 12;
const [LANE, WIDTH] = [26, 1000];

/** @param {any[]} rows newest first @param {string} field what makes a lane @param {import("../main.js").Context} cx */
export function timeline(rows, field, cx) {
  const spans = rows.map((row) => {
    const end = millis(row.timestamp);
    return { row, from: end - (Number(row.duration_ms) || 0), to: end, isOpen: row.status === "in_progress" };
  });
  const ended = new Set(rows.filter((row) => row.status !== "in_progress").map((row) => row.operation_id).filter(Boolean));
  const drawn = spans.filter(({ row, isOpen }) => !(isOpen && ended.has(row.operation_id)));
  const first = Math.min(...drawn.map((one) => one.from));
  const last = Math.max(...drawn.map((one) => one.to), first + 1000);
  const room = (last - first) * 0.01;
  const [from, to] = [first - room, last + room];
  /** @type {Map<string, typeof drawn>} */
  const lanes = new Map();
  for (const one of drawn) {
    const name = String(one.row[field] ?? "–");
    lanes.set(name, [...(lanes.get(name) ?? []), one]);
  }
  const shown = [...lanes].slice(0, MAX_LANES);
  const x = (/** @type {number} */ at) => ((at - from) / (to - from)) * WIDTH;
  const bodies = shown.map(([name, all]) => h("div", { class: "lane" }, laneName(name, field, cx), lane(all, x, cx)));
  // Names of lanes take their part; what is left has room for so many times.
  const most = Math.max(2, Math.min(8, Math.floor((document.documentElement.clientWidth - 220) / 80)));
  const marks = ticks(from, to, most).map(({ at, shape }) => h("span", { css: { left: `${(x(at) / WIDTH) * 100}%` } }, time(at, shape)));
  return h("div", { class: "timeline" }, ...bodies, h("div", { class: "lane axis-lane", "aria-hidden": "true" }, h("span", { class: "lane-name" }), h("div", { class: "lane-axis" }, ...marks)),
    lanes.size > MAX_LANES && h("p", { class: "muted small" }, t("people.lanes", { n: lanes.size - MAX_LANES })));
}

/** @param {string} name @param {string} field @param {import("../main.js").Context} cx */
function laneName(name, field, cx) {
  const text = h("bdi", {}, name === "–" ? t("people.no_session") : oneLine(name, 40));
  if (field === "session_id" && name !== "–") return h("a", { class: "lane-name mono", href: format({ view: "people", session: name, range: cx.state.range }), title: oneLine(name) }, text);
  return h("span", { class: "lane-name", title: oneLine(name) }, text);
}

/** @param {{ row: any, from: number, to: number, isOpen: boolean }[]} spans @param {(at: number) => number} x @param {import("../main.js").Context} cx */
function lane(spans, x, cx) {
  const bars = spans.map(({ row, from, to, isOpen }) => {
    const [left, right] = [x(from), isOpen ? WIDTH : x(to)];
    const what = oneLine(row.code ?? row.description ?? row.endpoint ?? row.event_type ?? "", 80);
    const title = `${time(to, "seconds")} · ${word("status", String(row.status ?? "none"))} · ${duration(row.duration_ms)}\n${what}`;
    const bar = s("rect", { class: `b-${statusClass(row.status ?? "none")}${isOpen ? " open" : ""}`, x: left.toFixed(2), y: 6, width: Math.max(3, right - left).toFixed(2), height: LANE - 12, rx: 1.5 }, s("title", {}, title));
    bar.addEventListener("click", () => cx.go({ ...empty, view: "events", event: String(row.id ?? row.seq), q: row.session_id ? `session_id:"${row.session_id}"` : "", range: "all", live: false }));
    return bar;
  });
  return s("svg", { class: "lane-bars", viewBox: `0 0 ${WIDTH} ${LANE}`, preserveAspectRatio: "none", height: LANE, role: "img", "aria-label": t("people.lane", { n: spans.length }) }, s("line", { class: "grid", x1: 0, x2: WIDTH, y1: LANE / 2, y2: LANE / 2 }), ...bars.reverse());
}

const empty = { user: "", session: "", tab: "", from: "", to: "" };

