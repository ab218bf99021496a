// Users and sessions: who was active, each session as a report, and both as a timeline.

import { h, replace } from "../dom.js";
import { duration, millis, number, percent, t, time } from "../i18n.js";
import { get, orElse } from "../api.js";
import { format, span } from "../state.js";
import { oneLine } from "../text.js";
import { term } from "../query.js";
import { curl, curlButton, emptyState, errorState, skeleton, statusBadge, timeTag } from "../parts.js";
import { panel, table } from "./overview.js";
import { rangeButton } from "./range.js";
import { timeline } from "./timeline.js";
import { share } from "./charts.js";

/** Events of a timeline; of more the newest are shown. */
const MAX_EVENTS = 1000;
/** Users and sessions of the lists. */
const MAX_ROWS = 200;

export class PeopleView {
  #abort = new AbortController();

  /** @param {import("../main.js").Context} cx */
  constructor(cx) {
    this.cx = cx;
    this.element = h("section", { class: "page", "aria-label": t("nav.people") });
  }

  destroy() {
    this.#abort.abort();
  }

  /** @param {import("../state.js").State} state */
  update(state) {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#show(state.session ? this.#session(state.session) : state.user ? this.#user(state.user) : this.#all());
  }

  /** @param {Promise<Node[]>} content */
  async #show(content) {
    const { signal } = this.#abort;
    replace(this.element, skeleton(12));
    try {
      const parts = await content;
      if (!signal.aborted) replace(this.element, ...parts);
    } catch (error) {
      if (!signal.aborted) replace(this.element, errorState(error, () => this.update(this.cx.state)));
    }
  }

  /** @param {string} path @param {import("../api.js").Params} [params] */
  #get(path, params) {
    return get(path, params, { signal: this.#abort.signal });
  }

  #span() {
    const { from, to } = span(this.cx.state, Date.now());
    return { start_date: from === undefined ? "" : new Date(from).toISOString(), end_date: to === undefined ? "" : new Date(to).toISOString() };
  }

  /** @param {string} title @param {Node | false} back @param {() => string} command @param {boolean} hasRange */
  #head(title, back, command, hasRange) {
    return h("header", { class: "page-head" }, back, h("h1", {}, h("bdi", {}, title)), h("span", { class: "grow" }), hasRange && rangeButton(this.cx), curlButton(command));
  }

  async #all() {
    const isUser = this.cx.me.role === "user";
    const range = this.#span();
    const [users, { sessions }, { logs }] = await Promise.all([isUser ? { groups: [] } : orElse(this.#get("api/logs/stats", { group_by: "user_id", ...range }), { groups: [] }), this.#sessions({ limit: MAX_ROWS }), isUser ? { logs: [] } : this.#get("api/logs", { limit: MAX_ROWS, ...range })]);
    // Without sessions there is nothing here of one's own but the events.
    if (isUser && !sessions) return this.#user(this.cx.me.user);
    const names = namesOf(logs);
    const groups = users.groups.filter((/** @type {any} */ group) => group.user_id);
    const most = groups[0]?.count ?? 0;
    const rows = groups.slice(0, MAX_ROWS).map((/** @type {any} */ group) => [h("a", { href: format({ view: "people", user: group.user_id, range: this.cx.state.range }) }, named(group.user_id, names.get(String(group.user_id)))), share(group.count, most), h("span", { class: "num" }, number(group.errors)), h("span", { class: "num" }, percent(group.success_rate)), h("span", { class: "num" }, duration(group.avg_ms) || "–")]);
    const more = groups.length > MAX_ROWS && h("p", { class: "muted" }, t("people.more", { n: groups.length - MAX_ROWS }));
    return [
      this.#head(t("nav.people"), false, () => curl("api/logs/stats", { group_by: "user_id", ...range }), !isUser),
      h("div", { class: isUser || !sessions ? "panels one" : "panels two" },
        !isUser && h("section", { class: "panel" }, h("h2", {}, t("people.users"), h("span", { class: "muted" }, ` ${number(groups.length)}`)), table([t("col.user"), t("col.events"), t("card.errors"), t("card.success"), t("col.average")], rows), more),
        sessions && h("section", { class: "panel" }, h("h2", {}, t("people.sessions")), sessionTable(sessions, !isUser))),
    ];
  }

  /** Nothing where the place that is read knows no sessions. @param {import("../api.js").Params} params @returns {Promise<{ sessions?: any[] }>} */
  #sessions(params) {
    return orElse(this.#get("api/sessions", params), {});
  }

  /** @param {string} user */
  async #user(user) {
    const range = this.#span();
    const q = term("user_id", user);
    const [stats, { sessions }, { logs, total }] = await Promise.all([this.#get("api/logs/stats", { q, group_by: "user_id", ...range }), this.#sessions({ user_id: user, limit: MAX_ROWS }), this.#get("api/logs", { user_id: user, limit: MAX_EVENTS, ...range })]);
    const group = stats.groups[0];
    const back = h("a", { class: "back", href: format({ view: "people" }) }, t("nav.people"));
    return [
      this.#head(namesOf(logs).get(user)?.[0] ?? user, back, () => curl("api/logs", { user_id: user, ...range }), true),
      facts([[t("col.events"), number(group?.count ?? 0)], [t("card.errors"), number(group?.errors ?? 0)], [t("card.success"), percent(group?.success_rate)], [t("col.average"), duration(group?.avg_ms) || "–"], ...(sessions ? [/** @type {[string, string]} */ ([t("people.sessions"), number(sessions.length)])] : [])]),
      panel(t("people.timeline"), logs.length ? timeline(logs, sessions ? "session_id" : "event_type", this.cx) : emptyState(t("events.none")), h("p", { class: "muted small" }, total > logs.length ? t("people.newest", { n: logs.length, total }) : "", " ", h("a", { href: format({ q, range: this.cx.state.range, from: this.cx.state.from, to: this.cx.state.to }) }, t("people.as_list")))),
      ...(sessions ? [h("section", { class: "panel" }, h("h2", {}, t("people.sessions")), sessionTable(sessions, false))] : []),
    ];
  }

  /** @param {string} session */
  async #session(session) {
    const q = term("session_id", session);
    // Viewers have no reports.
    const hasReport = this.cx.me.role !== "viewer";
    const [report, { logs, total }] = await Promise.all([hasReport ? this.#get("get_logs", { format: "json", session_id: session }) : null, this.#get("api/logs", { session_id: session, limit: MAX_EVENTS })]);
    const user = logs.find((/** @type {any} */ row) => row.user_id)?.user_id;
    const back = user && user !== this.cx.me.user ? h("a", { class: "back", href: format({ view: "people", user: String(user) }) }, h("bdi", {}, oneLine(user, 60))) : h("a", { class: "back", href: format({ view: "people" }) }, t("nav.people"));
    const print = hasReport ? [" · ", h("a", { href: `get_logs?format=html&session_id=${encodeURIComponent(session)}`, target: "_blank", rel: "noopener" }, t("report.print"))] : [];
    return [
      this.#head(t("people.session", { id: session.length > 20 ? `${session.slice(0, 18)}…` : session }), back, () => (hasReport ? curl("get_logs", { format: "json", session_id: session }) : curl("api/logs", { session_id: session })), false),
      ...(report ? [summaryOf(report)] : []),
      panel(t("people.timeline"), logs.length ? timeline(logs, "event_type", this.cx) : emptyState(t("events.none")), h("p", { class: "muted small" }, total > logs.length ? t("people.newest", { n: logs.length, total }) : "", " ", h("a", { href: format({ q, range: "all" }) }, t("people.as_list")), ...print)),
      ...(report ? [detailsOf(report)] : []),
    ];
  }
}

/** What users are called, by their ids, as far as events say it; the name first. @param {any[]} logs @returns {Map<string, string[]>} */
function namesOf(logs) {
  const called = (/** @type {any} */ row) => [row.user_display_name, row.user_email].filter(Boolean).map(String);
  return new Map(logs.filter((row) => row.user_id && called(row).length > 0).map((row) => [String(row.user_id), called(row)]));
}

/** A user by name, with the id beside it. @param {string} id @param {string[]} [names] */
function named(id, names) {
  if (!names) return h("bdi", {}, oneLine(id, 80));
  return h("span", { title: [...names, id].join(" · ") }, h("bdi", {}, oneLine(names[0], 80)), " ", h("bdi", { class: "muted small mono" }, oneLine(id, 13)));
}

/** @param {any} report */
function summaryOf({ summary, open_operations }) {
  return facts([[t("report.activities"), number(summary.total_activities)], [t("report.succeeded"), number(summary.success_count)], [t("report.failed"), number(summary.failed_count)], [t("card.success"), percent(summary.success_rate)], [t("report.minutes"), number(summary.session_duration, 1)], [t("report.open"), number(open_operations.length)]]);
}

/** @param {any} report */
function detailsOf({ performance, failed_activities }) {
  const actions = Object.entries(performance.by_action).sort((/** @type {any} */ a, /** @type {any} */ b) => b[1].count - a[1].count).slice(0, 20);
  const failed = failed_activities.slice(-20).reverse();
  return h("div", { class: "panels two" },
    panel(t("report.by_action"), table([t("col.type"), t("col.events"), t("card.success"), t("col.average"), t("col.p95")], actions.map(([name, one]) => [h("bdi", {}, oneLine(name, 60)), h("span", { class: "num" }, number(/** @type {any} */ (one).count)), h("span", { class: "num" }, percent(/** @type {any} */ (one).success_rate)), h("span", { class: "num" }, duration(/** @type {any} */ (one).avg_ms) || "–"), h("span", { class: "num" }, duration(/** @type {any} */ (one).p95_ms) || "–")]))),
    panel(t("report.failures"), table([t("event.error"), t("col.type"), t("col.time")], failed.map((/** @type {any} */ one) => [h("span", { class: "error-text", dir: "auto" }, oneLine(String(one.error ?? "–").trimEnd().split("\n").pop(), 100)), h("bdi", {}, oneLine(one.action, 40)), timeTag(one.timestamp)]))));
}

/** @param {[string, string][]} pairs */
function facts(pairs) {
  return h("dl", { class: "figures" }, ...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** @param {any[]} sessions @param {boolean} withUser */
function sessionTable(sessions, withUser) {
  const names = [t("col.session"), ...(withUser ? [t("col.user")] : []), t("col.events"), t("card.errors"), t("col.length"), t("col.last")];
  const rows = sessions.map((one) => [
    h("a", { class: "mono", href: format({ view: "people", session: one.session_id }), title: one.session_id }, h("bdi", {}, oneLine(one.session_id, 60))),
    ...(withUser ? [h("bdi", {}, oneLine(one.user_id ?? "–", 40))] : []),
    h("span", { class: "num" }, number(one.events)), h("span", { class: `num${one.errors ? " error-text" : ""}` }, number(one.errors)),
    one.open_operations > 0 ? statusBadge("in_progress") : h("span", { class: "num", title: time(millis(one.started), "exact") }, one.events > 1 ? duration(millis(one.last_activity) - millis(one.started)) : "–"), timeTag(one.last_activity),
  ]);
  return table(names, rows);
}
