// One event: what ran, what went wrong, its members, its session around it, and the run before.

import { h, icon, iconButton, replace } from "../dom.js";
import { ago, bytes, duration, millis, number, t, time, word } from "../i18n.js";
import { ApiError, get, getText } from "../api.js";
import { format } from "../state.js";
import { errorText, oneLine, visible } from "../text.js";
import { member, parse, pretty, textOf } from "../json.js";
import { term } from "../query.js";
import { codeBlock, diffBlock, tree } from "../code.js";
import { copy, curl, curlButton, errorState, skeleton, statusBadge, statusClass } from "../parts.js";

/** Members that have a place of their own in the view. */
const SHOWN = ["code", "error_message", "error_trace", "error_type", "metadata", "redactions", "truncated", "status", "timestamp", "description", "event_type"];
/** Members that can be searched for with a click. */
const FILTERED = /^(user_id|user_email|session_id|event_type|entity_type|entity_id|host|ip_address|peer_ip|endpoint|http_method|status_code|language|notebook|kernel_id|source|agent|error_type|target_user_id|trace_id|operation_id|reported_by|is_admin)$/;
/** Neighbours of the session on each side. */
const NEIGHBOURS = 5;
/** The longest part of a raw event that is shown. */
const MAX_RAW = 200_000;

/** @typedef {{ step: (by: number) => void, filter: (field: string, value: string, out: boolean) => void }} Acts */

export class EventPanel {
  #id = "";
  #abort = new AbortController();

  /** @param {import("../main.js").Context} cx @param {Acts} acts */
  constructor(cx, acts) {
    this.cx = cx;
    this.acts = acts;
    this.body = h("div", { class: "event-body" });
    this.title = h("div", { class: "event-title" });
    this.element = h("aside", { class: "event", "aria-label": t("event.title"), hidden: true }, h("header", { class: "event-head" }, this.title, h("div", { class: "event-tools" },
      iconButton("up", t("event.previous"), () => acts.step(-1)), iconButton("down", t("event.next"), () => acts.step(1)),
      iconButton("link", t("event.link"), () => copy(this.#link(), t("event.linked"))),
      curlButton(() => curl(`api/logs/${encodeURIComponent(this.#id)}`)),
      iconButton("close", t("close"), () => cx.go({ event: "" })))), this.body);
  }

  destroy() {
    this.#abort.abort();
  }

  #link() {
    return new URL(format({ event: this.#id, range: "all", live: false }), document.baseURI).href;
  }

  /** @param {string} id none closes the panel */
  show(id) {
    if (id === this.#id) return;
    this.#id = id;
    this.#abort.abort();
    this.element.hidden = id === "";
    if (id) this.#load();
  }

  async #load() {
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    replace(this.title);
    replace(this.body, skeleton(8));
    try {
      const text = await getText(`api/logs/${encodeURIComponent(this.#id)}`, {}, { signal });
      if (signal.aborted) return;
      this.#draw(text);
      this.body.scrollTop = 0;
    } catch (error) {
      if (signal.aborted) return;
      const isGone = error instanceof ApiError && error.status === 404;
      replace(this.body, isGone ? h("div", { class: "empty" }, h("h2", {}, t("event.gone")), h("p", { class: "muted" }, t("event.gone_why"))) : errorState(error, () => this.#load()));
    }
  }

  /** @param {string} text the event as the API sends it */
  #draw(text) {
    const event = JSON.parse(text);
    const value = parse(text);
    const at = millis(event.timestamp);
    replace(this.title, statusBadge(event.status), h("h2", {}, h("bdi", {}, oneLine(event.event_type || t("event.title"), 80))),
      h("time", { class: "muted", title: time(at, "full"), datetime: Number.isFinite(at) ? new Date(at).toISOString() : null }, `${time(at, "exact")} · ${ago(at)}`));
    replace(this.body, this.#facts(event), ...this.#story(event), ...this.#members(value), this.#marks(event, value), this.#raw(text, value));
    this.#around(event);
  }

  /** @param {any} event */
  #facts(event) {
    const fact = (/** @type {string} */ name, /** @type {Node | string | false} */ value) => value && h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const person = event.user_id && h("a", { href: format({ view: "people", user: String(event.user_id) }), title: oneLine(event.user_id, 80) }, h("bdi", {}, oneLine(event.user_display_name || event.user_email || event.user_id, 80)));
    const session = event.session_id && h("a", { href: format({ view: "people", session: String(event.session_id) }), title: oneLine(event.session_id) }, h("bdi", {}, oneLine(event.session_id, 18)));
    const cell = event.cell_number !== undefined && event.cell_number !== null && `[${number(event.cell_number)}]`;
    return h("dl", { class: "facts" }, fact(t("col.user"), person), fact(t("col.session"), session), fact(t("field.cell_number"), cell),
      fact(t("col.duration"), event.duration_ms !== undefined && duration(event.duration_ms)), fact(t("field.endpoint"), event.endpoint && h("bdi", { dir: "ltr" }, oneLine(`${event.http_method ?? ""} ${event.endpoint}`, 120))),
      fact(t("field.status_code"), event.status_code && String(event.status_code)));
  }

  /** @param {any} event */
  #story(event) {
    const parts = [];
    if (event.description) parts.push(h("p", { class: "description", dir: "auto" }, visible(String(event.description))));
    if (event.error_message || event.error_trace || event.error_type) {
      const message = String(event.error_message ?? event.error_type ?? "");
      const trace = String(event.error_trace ?? (message.includes("\n") ? message : ""));
      parts.push(section(t("event.error"), h("p", { class: "error-line", dir: "auto" }, visible(errorText(event))), trace && codeBlock(trace, { plain: true })));
    }
    if (typeof event.code === "string") {
      const isPreview = this.cx.me.role === "viewer" && event.code.length >= 100;
      parts.push(section(t("event.code"), codeBlock(event.code, { language: event.language }), isPreview && h("p", { class: "muted small" }, t("event.preview"))));
      this.previous = h("div");
      parts.push(this.previous);
    }
    return parts;
  }

  /** @param {import("../json.js").Value} value @returns {(Node | false | undefined)[]} */
  #members(value) {
    const metadata = member(value, "metadata");
    const rest = value.kind === "object" ? value.members.filter(([name, one]) => !SHOWN.includes(name) && !(one.kind === "word" && one.text === "null")) : [];
    const rows = rest.map(([name, one]) => {
      const text = textOf(one);
      const canFilter = FILTERED.test(name) && text !== "" && text.length < 200;
      return h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, visible(name))), h("td", {}, one.kind === "object" || one.kind === "array" ? tree(one) : h("bdi", {}, visible(text).slice(0, 2000))),
        h("td", { class: "acts" }, canFilter && iconButton("plus", t("filter.in_value", { field: name }), () => this.acts.filter(name, text, false)), canFilter && iconButton("minus", t("filter.out_value", { field: name }), () => this.acts.filter(name, text, true))));
    });
    this.around = h("div");
    const has = metadata && ((metadata.kind === "object" && metadata.members.length > 0) || metadata.kind === "array");
    return [this.#causes(value), has && section(t("event.metadata"), tree(metadata)), this.around, section(t("event.fields"), h("table", { class: "fields" }, h("tbody", {}, ...rows)))];
  }

  /** The events of an alert. @param {import("../json.js").Value} value */
  #causes(value) {
    const metadata = member(value, "metadata");
    const ids = metadata && textOf(member(value, "event_type")) === "alert" ? member(metadata, "event_ids") : undefined;
    if (ids?.kind !== "array" || ids.items.length === 0) return false;
    const links = ids.items.slice(0, 20).map((id) => h("li", {}, h("a", { class: "mono", href: format({ ...this.cx.state, event: textOf(id) }) }, oneLine(textOf(id), 60))));
    return section(t("event.causes", { n: ids.items.length }), h("ul", { class: "plain" }, ...links));
  }

  /** What was hidden and what was cut. @param {any} event @param {import("../json.js").Value} value */
  #marks(event, value) {
    const redactions = Array.isArray(event.redactions) ? event.redactions : [];
    const truncated = member(value, "truncated");
    const cut = truncated?.kind === "object" ? truncated.members : [];
    if (redactions.length === 0 && cut.length === 0) return false;
    return section(t("event.changed"),
      redactions.length > 0 && h("ul", { class: "plain" }, ...redactions.slice(0, 50).map((/** @type {any} */ one) => h("li", {}, t("event.redacted", { n: Number(one?.count) || 1 }), " ", h("code", {}, oneLine(one?.rule, 80))))),
      cut.length > 0 && h("ul", { class: "plain" }, ...cut.slice(0, 50).map(([name, one]) => h("li", {}, t("event.truncated", { field: oneLine(name, 80), size: bytes(Number(textOf(member(one, "bytes")))) }), " ",
        h("code", { class: "hash", title: textOf(member(one, "sha256")) }, `sha256 ${textOf(member(one, "sha256")).slice(0, 12)}…`)))));
  }

  /** @param {string} text @param {import("../json.js").Value} value */
  #raw(text, value) {
    const place = h("div");
    const details = h("details", { class: "raw" }, h("summary", {}, h("h3", {}, t("event.raw"))), place);
    details.addEventListener("toggle", () => {
      if (!details.open || place.hasChildNodes()) return;
      const shown = text.length > MAX_RAW ? text.slice(0, MAX_RAW) : pretty(value);
      place.append(h("div", { class: "button-row" }, h("button", { type: "button", class: "text-button", onclick: () => copy(text) }, icon("copy"), t("event.copy_json"))), codeBlock(shown, { plain: true }));
    });
    return details;
  }

  /** The session around the event, and the run of the same cell before it. @param {any} event */
  async #around(event) {
    const { signal } = this.#abort;
    const id = encodeURIComponent(this.#id);
    if (event.session_id || event.user_id) {
      const answer = await get(`api/logs/${id}/context`, { limit: NEIGHBOURS }, { signal }).catch(() => undefined);
      if (signal.aborted || !answer || !this.around) return;
      const all = [...answer.before, answer.event, ...answer.after];
      const rows = all.map((row) => neighbour(row, row === answer.event, this.cx));
      if (all.length > 1) replace(this.around, section(event.session_id ? t("event.session") : t("event.user_around"), h("div", { class: "neighbours" }, ...rows)));
    }
    if (typeof event.code === "string" && event.cell_number !== undefined && event.session_id) await this.#previousRun(event, signal);
  }

  /** @param {any} event @param {AbortSignal} signal */
  async #previousRun(event, signal) {
    const same = event.notebook ? `${term("notebook", String(event.notebook))} ${term("user_id", String(event.user_id ?? ""))}` : term("session_id", String(event.session_id));
    const q = `${same} cell_number:${Number(event.cell_number)} has:code`;
    const answer = await get("api/logs", { q, end_date: event.timestamp, limit: 5 }, { signal }).catch(() => undefined);
    const earlier = answer?.logs.find((/** @type {any} */ row) => String(row.id) !== String(event.id) && row.operation_id !== (event.operation_id ?? row.id) && millis(row.timestamp) < millis(event.timestamp));
    if (!earlier || signal.aborted) return;
    const whole = await get(`api/logs/${encodeURIComponent(earlier.id)}`, {}, { signal }).catch(() => undefined);
    if (!whole || signal.aborted || !this.previous || typeof whole.code !== "string") return;
    const link = h("a", { href: format({ ...this.cx.state, event: String(whole.id) }) }, ago(millis(whole.timestamp)));
    const title = h("h3", {}, t("event.previous_run"), " ", link);
    replace(this.previous, h("section", {}, title, whole.code === event.code ? h("p", { class: "muted" }, t("event.same_code")) : diffBlock(whole.code, event.code)));
  }
}

/** @param {string} title @param {...(Node | string | false | undefined)} inside */
function section(title, ...inside) {
  return h("section", {}, h("h3", {}, title), ...inside);
}

/** @param {any} row @param {boolean} isThis @param {import("../main.js").Context} cx */
function neighbour(row, isThis, cx) {
  const what = row.code ?? row.description ?? row.endpoint ?? row.event_type ?? "";
  const inside = [h("i", { class: `dot s-${statusClass(row.status ?? "none")}`, title: word("status", String(row.status ?? "none")) }), h("span", { class: "muted num" }, time(millis(row.timestamp), "seconds")),
    h(row.code ? "code" : "bdi", { class: "what", dir: row.code ? "ltr" : "auto" }, oneLine(what, 120)), h("span", { class: "muted num" }, duration(row.duration_ms))];
  if (isThis) return h("div", { class: "neighbour this", "aria-current": "true" }, ...inside);
  return h("a", { class: "neighbour", href: format({ ...cx.state, event: String(row.id ?? row.seq) }) }, ...inside);
}
