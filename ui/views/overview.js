// Overview: how much ran, how well and how fast, who was busy, and what failed last.

import { h, replace } from "../dom.js";
import { duration, millis, number, percent, t, time, zone } from "../i18n.js";
import { get, isLacking, orElse } from "../api.js";
import { format } from "../state.js";
import { errorText, oneLine } from "../text.js";
import { term } from "../query.js";
import { curl, curlButton, errorState, skeleton, timeTag } from "../parts.js";
import { columns, share, sparkline, trend } from "./charts.js";
import { firstEvent } from "./first.js";

/** Days that charts go back. */
const DAYS = 14;
const DAY = 86_400_000;
/** Rows of the small tables. */
const ROWS = 8;
/** Milliseconds between two looks while the page is seen. */
const EVERY = 300_000;
/** Code that has ended. */
const EXECUTIONS = "has:code -status:in_progress";
/** What nobody did but who reads. */
const NO_READS = "-event_type:(activity_read OR admin_view_activity_logs)";
/** What is counted, the first that the place can tell and has: a product may have no code, and a table no status. */
const COUNTED = [EXECUTIONS, `-status:in_progress ${NO_READS}`, "-status:in_progress", ""];

export class OverviewView {
  #abort = new AbortController();
  /** @type {ReturnType<typeof setInterval>} */
  #timer;
  /** Which events are counted. */
  #counted = EXECUTIONS;

  /** @param {import("../main.js").Context} cx */
  constructor(cx) {
    this.cx = cx;
    this.body = h("div", { class: "overview-body" }, skeleton(10));
    this.about = h("span", { class: "muted" }, t("overview.about", { n: DAYS }));
    this.element = h("section", { class: "page", "aria-label": t("nav.overview") }, h("header", { class: "page-head" }, h("h1", {}, t("nav.overview")), this.about, h("span", { class: "grow" }),
      curlButton(() => curl("api/logs/stats", { group_by: "day", q: this.#counted, start_date: since(), tz: zone() }))), this.body);
    this.#timer = setInterval(() => !document.hidden && this.#load(), EVERY);
  }

  destroy() {
    this.#abort.abort();
    clearInterval(this.#timer);
  }

  update() {
    this.#load();
  }

  async #load() {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const ask = (/** @type {import("../api.js").Params} */ params) => get("api/logs/stats", { q: this.#counted, start_date: since(), tz: zone(), ...params }, { signal });
    const isAdmin = this.cx.me.role === "admin";
    try {
      const all = await this.#whole(ask);
      const ofCode = this.#counted === EXECUTIONS;
      const grouped = (/** @type {import("../api.js").Params} */ params) => orElse(ask(params), { groups: [] });
      const [days, hours, users, endpoints, errors, slow, types, system, pipeline] = await Promise.all([
        ask({ group_by: "day" }), ask({ group_by: "hour" }), grouped({ group_by: "user_id" }), grouped({ q: `has:endpoint ${NO_READS}`, group_by: "endpoint" }),
        orElse(get("api/logs", { q: "status:(error OR aborted OR lost)", limit: ROWS }, { signal }), { logs: [], total: 0 }), orElse(this.#slowest(ask, signal), []), ofCode ? { groups: [] } : grouped({ group_by: "event_type" }),
        // The system's statistics are of executions, too.
        isAdmin && ofCode ? orElse(get("api/admin/system-stats", { tz: zone() }, { signal }), undefined) : undefined, isAdmin ? get("api/pipeline", {}, { signal }) : undefined,
      ]);
      if (signal.aborted) return;
      if (all.total_logs === 0 && !system?.total_executions && errors.total === 0 && endpoints.groups.length === 0) return replace(this.body, await firstEvent(this.cx));
      const series = filled(days.groups);
      const rate = pipeline?.components.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + (one.kind === "source" ? one.rates.received : 0), 0);
      this.about.textContent = t(ofCode ? "overview.about" : "overview.about_events", { n: DAYS });
      replace(this.body, this.#cards(all, series, users.groups, system, rate), this.#charts(series, hours.groups), this.#tables(users.groups, endpoints.groups, errors.logs, slow, types.groups));
    } catch (error) {
      if (!signal.aborted) replace(this.body, errorState(error, () => this.#load()));
    }
  }

  /** What is counted, as a whole. @param {(params: any) => Promise<any>} ask @returns {Promise<any>} */
  async #whole(ask) {
    /** @type {{ q: string, all: any } | undefined} */
    let none;
    for (const q of COUNTED) {
      this.#counted = q;
      try {
        const all = await ask({});
        if (all.total_logs > 0) return all;
        if (none) break;
        none = { q, all };
      } catch (error) {
        if (!isLacking(error) || q === "") throw error;
      }
    }
    this.#counted = none?.q ?? "";
    return none?.all;
  }

  /** The slowest executions: those that took as long as the slowest of some group. @param {(params: any) => Promise<any>} ask @param {AbortSignal} signal @returns {Promise<any[]>} */
  async #slowest(ask, signal) {
    const { groups } = await ask({ group_by: "status" });
    const least = Math.max(0, ...groups.map((/** @type {any} */ group) => group.p95_ms ?? 0));
    if (least === 0) return [];
    const answer = await get("api/logs", { q: `${this.#counted} duration_ms:>=${least}`.trim(), start_date: since(), limit: 1000 }, { signal });
    return answer.logs.sort((/** @type {any} */ a, /** @type {any} */ b) => b.duration_ms - a.duration_ms).slice(0, ROWS);
  }

  /** @param {any} all @param {Day[]} series @param {any[]} users @param {any} system @param {number | undefined} rate events a second */
  #cards(all, series, users, system, rate) {
    const today = series[series.length - 1];
    const days = series.map((day) => day.count);
    const card = (/** @type {string} */ name, /** @type {string} */ value, /** @type {string | Node | false} */ under, /** @type {Node | false} */ line = false) => h("div", { class: "card" }, h("div", { class: "card-text" }, h("div", { class: "card-name" }, name), h("div", { class: "card-value" }, value), h("div", { class: "card-under muted" }, under)), line);
    const last = h("div", { class: "card" }, h("div", { class: "card-text" }, h("div", { class: "card-name" }, t("card.last")), h("div", { class: "card-value" }, all.last_event ? timeTag(all.last_event) : "–"), h("div", { class: "card-under muted" }, all.last_event ? time(millis(all.last_event), "minute") : "")));
    return h("div", { class: "cards" },
      card(t(this.#counted === EXECUTIONS ? "card.total" : "col.events"), number(system?.total_executions ?? all.total_logs), system ? t("card.all_time") : t("card.days", { n: DAYS })),
      card(t("card.today"), number(today?.count ?? 0), t("card.yesterday", { n: series[series.length - 2]?.count ?? 0 }), sparkline(days)),
      card(t("card.success"), percent(all.success_rate), t("card.days", { n: DAYS }), all.success_rate !== null && sparkline(series.map((day) => (day.count ? 1 - day.errors / day.count : null)), "success")),
      card(t("card.errors"), number(all.errors), t("card.errors_today", { n: today?.errors ?? 0 }), sparkline(series.map((day) => day.errors), "error")),
      card(t("card.duration"), duration(all.avg_ms) || "–", t("card.p95", { time: duration(all.p95_ms) || "–" }), sparkline(series.map((day) => day.avg))),
      this.cx.me.role !== "user" && card(t("card.users"), number(system?.active_users ?? users.length), system ? t("card.of_users", { n: system.total_users }) : t("card.days", { n: DAYS })),
      rate === undefined ? card(t("card.recent"), number(all.recent_24h), t("card.rate", { rate: number(all.recent_24h / 1440, 1) })) : card(t("card.now"), t("unit.rate", { rate: number(rate, 1) }), t("card.recent_24h", { n: all.recent_24h })),
      last);
  }

  /** @param {Day[]} series @param {any[]} hours */
  #charts(series, hours) {
    const days = series.map((day) => ({
      label: time(day.at, "day"), title: `${time(day.at, "weekday")}: ${t("events.count", { n: day.count })}, ${t("overview.errors", { n: day.errors })}`,
      parts: /** @type {[string, number][]} */ ([["success", day.count - day.errors], ["error", day.errors]]),
      href: format({ q: this.#counted, range: "custom", from: new Date(day.at).toISOString(), to: new Date(day.at + DAY - 1).toISOString() }),
    }));
    const byHour = new Map(hours.map((group) => [Number(group.hour), group]));
    const clock = Array.from({ length: 24 }, (_, hour) => {
      const group = byHour.get(hour);
      return { label: number(hour), title: `${number(hour)}:00 – ${t("events.count", { n: group?.count ?? 0 })}`, parts: /** @type {[string, number][]} */ ([["accent", group?.count ?? 0]]) };
    });
    const perDay = t(this.#counted === EXECUTIONS ? "overview.days" : "overview.days_events");
    return h("div", { class: "panels" }, panel(perDay, columns(days, { label: perDay, every: 2 }), legend()),
      panel(t("overview.trend"), trend(series.map((day) => day.p95), series.map((day) => time(day.at, "day")), { label: t("overview.trend"), show: (value) => duration(value) || number(0) })),
      panel(t("overview.hours"), columns(clock, { label: t("overview.hours"), every: 3 })));
  }

  /** @param {any[]} users @param {any[]} endpoints @param {any[]} errors @param {any[]} slow @param {any[]} types */
  #tables(users, endpoints, errors, slow, types) {
    const ofCode = this.#counted === EXECUTIONS;
    const most = users[0]?.count ?? 0;
    const names = new Map([...errors, ...slow].map((row) => [String(row.user_id), person(row)]));
    const what = (/** @type {any} */ row) => (row.code ? h("code", {}, oneLine(row.code, 90)) : oneLine(row.description || row.endpoint || row.event_type || "–", 90));
    const typeRows = types.filter((group) => group.event_type).slice(0, ROWS).map((group) => [h("a", { href: format({ q: term("event_type", group.event_type) }) }, h("bdi", {}, oneLine(group.event_type, 60))), share(group.count, types[0].count), h("span", { class: "num" }, percent(group.success_rate))]);
    const slowEndpoints = endpoints.filter((group) => group.p95_ms !== null).sort((a, b) => b.p95_ms - a.p95_ms).slice(0, ROWS);
    const open = (/** @type {any} */ row) => format({ event: String(row.id ?? row.seq), range: "all", live: false });
    const userRows = users.filter((group) => group.user_id).slice(0, ROWS).map((group) => [h("a", { href: format({ view: "people", user: group.user_id }), title: oneLine(group.user_id, 80) }, h("bdi", {}, oneLine(names.get(String(group.user_id)) ?? group.user_id, 60))), share(group.count, most), h("span", { class: "num" }, percent(group.success_rate))]);
    const errorRows = errors.map((row) => [h("a", { href: open(row), class: "error-text", dir: "auto" }, oneLine(errorText(row) || row.description || row.event_type || "–", 90)), h("bdi", { title: oneLine(row.user_id ?? "", 80) }, oneLine(person(row), 40)), timeTag(row.timestamp)]);
    const slowRows = slow.map((row) => [h("a", { href: open(row), dir: "ltr", class: "code-link" }, what(row)), h("bdi", { title: oneLine(row.user_id ?? "", 80) }, oneLine(person(row), 40)), h("span", { class: "num" }, duration(row.duration_ms))]);
    const endpointRows = slowEndpoints.map((group) => [h("a", { href: format({ q: term("endpoint", group.endpoint) }) }, h("bdi", { dir: "ltr" }, oneLine(group.endpoint, 80))), h("span", { class: "num" }, number(group.count)), h("span", { class: "num" }, duration(group.p95_ms))]);
    return h("div", { class: "panels pairs" },
      this.cx.me.role !== "user" && panel(t("overview.users"), table([t("col.user"), t(ofCode ? "col.executions" : "col.events"), t("card.success")], userRows)),
      typeRows.length > 0 && panel(t("overview.types"), table([t("col.type"), t("col.events"), t("card.success")], typeRows)),
      panel(t("overview.recent_errors"), table([t("event.error"), t("col.user"), t("col.time")], errorRows)),
      panel(t(ofCode ? "overview.slow" : "overview.slow_events"), table([t(ofCode ? "event.code" : "col.what"), t("col.user"), t("col.duration")], slowRows)),
      endpointRows.length > 0 && panel(t("overview.endpoints"), table([t("field.endpoint"), t("col.events"), t("col.p95")], endpointRows)));
  }
}

/** @typedef {{ at: number, count: number, errors: number, avg: number | null, p95: number | null }} Day */

/** Whoever an event is of, as people call them. @param {any} row */
function person(row) {
  return row.user_display_name || row.user_email || row.user_id || "–";
}

/** The first of the days that charts show. */
function since() {
  return dayText(Date.now() - (DAYS - 1) * DAY);
}

/** The date of a moment in the zone of the page. @param {number} at */
function dayText(at) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone(), year: "numeric", month: "2-digit", day: "2-digit" }).format(at);
}

/** Every day, empty ones included. @param {any[]} groups @returns {Day[]} */
function filled(groups) {
  const known = new Map(groups.map((group) => [group.day, group]));
  return Array.from({ length: DAYS }, (_, nth) => {
    const text = dayText(Date.now() - (DAYS - 1 - nth) * DAY);
    const group = known.get(text);
    const at = zone() === "UTC" ? Date.parse(`${text}T00:00:00Z`) : new Date(`${text}T00:00:00`).getTime();
    return { at, count: group?.count ?? 0, errors: group?.errors ?? 0, avg: group?.avg_ms ?? null, p95: group?.p95_ms ?? null };
  });
}

function legend() {
  return h("div", { class: "legend" }, h("span", { class: "s-success" }, h("i", { class: "dot" }), t("legend.success")), h("span", { class: "s-error" }, h("i", { class: "dot" }), t("legend.errors")));
}

/** @param {string} title @param {...(Node | false)} inside */
export function panel(title, ...inside) {
  return h("section", { class: "panel" }, h("h2", {}, title), ...inside);
}

/** @param {string[]} names @param {(Node | string)[][]} rows @param {number} [wide] the column that takes what is left */
export function table(names, rows, wide = 0) {
  if (rows.length === 0) return h("p", { class: "muted none" }, t("none"));
  const kind = (/** @type {number} */ nth) => {
    const first = rows[0][nth];
    const isNumber = first instanceof Element && /\b(num|share)\b/.test(first.className);
    return nth === wide ? "wide" : isNumber ? "n" : "";
  };
  const kinds = names.map((_, nth) => kind(nth));
  const cell = (/** @type {Node | string} */ inside, /** @type {number} */ nth) => h("td", { class: kinds[nth] }, inside);
  const body = h("table", { class: "table" }, h("thead", {}, h("tr", {}, ...names.map((name, nth) => h("th", { scope: "col", class: kinds[nth] }, name)))), h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map(cell)))));
  return h("div", { class: "table-place", tabindex: 0, role: "group", "aria-label": names.join(", ") }, body);
}
