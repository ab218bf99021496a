// Operate: the pipeline with its rates, what holds it, dead letters, the configuration, and its reload.

import { h, icon, replace } from "../dom.js";
import { bytes, compact, number, t, word } from "../i18n.js";
import { ApiError, get, send } from "../api.js";
import { format } from "../state.js";
import { oneLine } from "../text.js";
import { commandBox, confirm, curl, curlButton, dialog, emptyState, errorState, explain, notice, skeleton, timeTag } from "../parts.js";
import { codeBlock, tree } from "../code.js";
import { parse, pretty } from "../json.js";
import { panel, table } from "./overview.js";
import { meter } from "./charts.js";
import { graph } from "./graph.js";

/** Milliseconds between two looks at the pipeline. */
const EVERY = 5000;
/** Dead letters and alerts that are listed. */
const MAX_ROWS = 100;

const TABS = /** @type {const} */ (["pipeline", "dead_letters", "alerts", "config"]);

export class OperateView {
  #abort = new AbortController();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  /** Ids of dead letters that are chosen. @type {Set<string>} */
  #chosen = new Set();

  /** @param {import("../main.js").Context} cx */
  constructor(cx) {
    this.cx = cx;
    this.tabs = h("nav", { class: "tabs", "aria-label": t("nav.operate") });
    this.tools = h("span", { class: "button-row" });
    this.body = h("div", { class: "operate-body" });
    this.element = h("section", { class: "page", "aria-label": t("nav.operate") }, h("header", { class: "page-head" }, h("h1", {}, t("nav.operate")), h("span", { class: "grow" }), this.tools), this.tabs, this.body);
  }

  destroy() {
    this.#abort.abort();
    clearInterval(this.#timer);
  }

  /** @param {import("../state.js").State} state */
  update(state) {
    this.#abort.abort();
    this.#abort = new AbortController();
    clearInterval(this.#timer);
    const tab = TABS.find((name) => name === state.tab) ?? "pipeline";
    replace(this.tabs, ...TABS.map((name) => h("a", { href: format({ view: "operate", tab: name === "pipeline" ? "" : name }), "aria-current": name === tab ? "page" : null }, t(`operate.${name}`))));
    const paths = { pipeline: "api/pipeline", dead_letters: "api/dlq", alerts: "api/logs", config: "api/config" };
    replace(this.tools, tab === "config" && h("button", { type: "button", class: "button", onclick: () => this.#reload() }, icon("reload"), t("operate.reload")), curlButton(() => curl(paths[tab], tab === "alerts" ? { q: "event_type:alert" } : {})));
    replace(this.body, skeleton(10));
    const draw = { pipeline: () => this.#pipeline(), dead_letters: () => this.#deadLetters(), alerts: () => this.#alerts(), config: () => this.#config() }[tab];
    this.#draw(draw);
    if (tab === "pipeline") this.#timer = setInterval(() => !document.hidden && this.#draw(draw), EVERY);
  }

  /** @param {() => Promise<(Node | false)[]>} draw */
  async #draw(draw) {
    const { signal } = this.#abort;
    try {
      const parts = await draw();
      if (!signal.aborted) replace(this.body, ...parts);
    } catch (error) {
      if (!signal.aborted) replace(this.body, errorState(error, () => this.update(this.cx.state)));
    }
  }

  /** @param {string} path @param {import("../api.js").Params} [params] */
  #get(path, params) {
    return get(path, params, { signal: this.#abort.signal });
  }

  async #pipeline() {
    const [pipeline, { config }, deadLetters] = await Promise.all([this.#get("api/pipeline"), this.#get("api/config"), this.#get("api/dlq", { limit: 1 })]);
    const { journal, store, memory, disk } = pipeline;
    const meters = h("div", { class: "meters" },
      meter(t("operate.journal"), journal.bytes, journal.limit_bytes, bytes),
      memory && meter(t("operate.memory"), memory.bytes, memory.limit_bytes, bytes),
      meter(t("operate.dead_letters"), deadLetters.bytes, deadLetters.limit_bytes, bytes),
      store?.bytes !== null && store?.bytes !== undefined && meter(t("operate.store"), store.bytes, store.limit_bytes ?? null, bytes),
      disk && meter(t("operate.disk"), disk.used_bytes, disk.total_bytes, bytes));
    const full = journal.full && h("p", { class: "banner error", role: "alert" }, icon("alert"), t("operate.full"));
    return [full, panel(t("operate.pipeline"), graph(pipeline.components, config)), meters, panel(t("operate.components"), componentTable(pipeline.components))];
  }

  async #deadLetters() {
    const { dead_letters: deadLetters, total, parked, next } = await this.#get("api/dlq", { limit: MAX_ROWS });
    this.#chosen = new Set([...this.#chosen].filter((id) => deadLetters.some((/** @type {any} */ one) => one.id === id)));
    if (total === 0) return [emptyState(t("dlq.none"), h("p", { class: "muted" }, t("dlq.none_why")))];
    const again = () => this.#draw(() => this.#deadLetters());
    const box = (/** @type {any} */ deadLetter) => h("input", { type: "checkbox", "aria-label": t("dlq.choose", { id: deadLetter.id }), checked: this.#chosen.has(deadLetter.id), onchange: (/** @type {any} */ event) => {
      if (event.target.checked) this.#chosen.add(deadLetter.id);
      else this.#chosen.delete(deadLetter.id);
      again();
    } });
    const rows = deadLetters.map((/** @type {any} */ deadLetter) => [
      h("span", { class: "dead-letter" }, box(deadLetter), h("button", { type: "button", class: "text-button", onclick: () => this.#deadLetter(deadLetter.id, again) }, h("span", { class: "reason", dir: "auto" }, oneLine(deadLetter.reason, 120))), deadLetter.answer && h("span", { class: "reason muted", dir: "auto" }, oneLine(deadLetter.answer, 200))),
      h("bdi", {}, oneLine(deadLetter.component, 40)), h("span", { class: "num" }, number(deadLetter.attempts)), deadLetter.parked ? h("bdi", {}, t("dlq.parked", { place: oneLine(deadLetter.destination, 40) })) : "", timeTag(deadLetter.time),
    ]);
    const ids = [...this.#chosen];
    const acts = h("div", { class: "button-row" }, h("span", { class: "muted" }, t("dlq.count", { n: total }), parked ? ` · ${t("dlq.parked_count", { n: parked })}` : ""), h("span", { class: "grow" }),
      h("button", { type: "button", class: "button", disabled: ids.length === 0, onclick: () => this.#replay(ids, again) }, icon("reload"), t("dlq.replay_chosen", { n: ids.length })),
      h("button", { type: "button", class: "button danger", disabled: ids.length === 0, onclick: () => confirm(t("dlq.drop_sure", { n: ids.length }), t("dlq.drop"), () => this.#drop(ids, again)) }, icon("trash"), t("dlq.drop_chosen", { n: ids.length })));
    return [acts, h("section", { class: "panel" }, table([t("dlq.reason"), t("col.component"), t("dlq.attempts"), t("dlq.place"), t("col.time")], rows), next && h("p", { class: "muted small" }, t("dlq.more", { n: MAX_ROWS })))];
  }

  /** @param {string} id @param {() => void} again */
  async #deadLetter(id, again) {
    try {
      const deadLetter = await this.#get(`api/dlq/${encodeURIComponent(id)}`);
      dialog(t("dlq.title", { id }), (close) => [
        h("dl", { class: "facts" }, ...[[t("dlq.reason"), deadLetter.reason], [t("dlq.answer"), deadLetter.answer], [t("col.component"), deadLetter.component], [t("dlq.attempts"), number(deadLetter.attempts)], [t("dlq.event_id"), deadLetter.event_id]]
          .filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { dir: "auto" }, oneLine(value, 2000))))),
        codeBlock(deadLetter.event ? pretty(parse(deadLetter.text)) : deadLetter.text, { plain: true }),
        h("footer", {}, h("button", { type: "button", class: "button danger", onclick: () => { close(); confirm(t("dlq.drop_sure", { n: 1 }), t("dlq.drop"), () => this.#drop([id], again)); } }, icon("trash"), t("dlq.drop")),
          h("button", { type: "button", class: "button primary", onclick: () => { close(); this.#replay([id], again); } }, icon("reload"), t("dlq.replay"))),
      ], { class: "wide" });
    } catch (error) {
      notice(explain(error), { kind: "error" });
    }
  }

  /** @param {string[]} ids @param {() => void} again */
  async #replay(ids, again) {
    let done = 0;
    for (const id of ids) {
      try {
        await send(`api/dlq/${encodeURIComponent(id)}/replay`);
        done++;
      } catch (error) {
        notice(explain(error), { kind: "error" });
      }
    }
    if (done) notice(t("dlq.replayed", { n: done }), { kind: "good" });
    this.#chosen.clear();
    again();
  }

  /** @param {string[]} ids @param {() => void} again */
  async #drop(ids, again) {
    try {
      const { count } = await send(`api/dlq/${ids.map(encodeURIComponent).join(",")}`, "DELETE");
      notice(t("dlq.dropped", { n: count }), { kind: "good" });
    } catch (error) {
      notice(explain(error), { kind: "error" });
    }
    this.#chosen.clear();
    again();
  }

  async #alerts() {
    const { logs, total } = await this.#get("api/logs", { q: "event_type:alert", limit: MAX_ROWS });
    if (total === 0) return [emptyState(t("alerts.none"), h("p", { class: "muted" }, t("alerts.none_why")))];
    const rows = logs.map((/** @type {any} */ row) => [h("a", { href: format({ event: String(row.id ?? row.seq), range: "all", live: false }), dir: "auto" }, oneLine(row.description ?? "–", 140)), h("bdi", {}, oneLine(row.metadata?.rule ?? "–", 60)),
      h("span", { class: `severity v-${oneLine(row.metadata?.severity ?? "", 20).replace(/\W/g, "")}` }, word("severity", oneLine(row.metadata?.severity ?? "–", 20))), timeTag(row.timestamp)]);
    return [h("section", { class: "panel" }, table([t("alerts.text"), t("alerts.rule"), t("alerts.severity"), t("col.time")], rows))];
  }

  async #config() {
    const { config } = await this.#get("api/config");
    const text = JSON.stringify(config);
    return [h("p", { class: "muted" }, t("operate.config_about")), h("section", { class: "panel" }, tree(parse(text)), h("details", { class: "raw" }, h("summary", {}, "JSON"), codeBlock(JSON.stringify(config, null, 2), { plain: true })))];
  }

  #reload() {
    confirm(t("operate.reload_sure"), t("operate.reload"), async () => {
      try {
        const outcome = await send("api/reload");
        const changed = Object.entries(outcome.changed).filter(([, names]) => /** @type {any} */ (names).length > 0).map(([how, names]) => `${word("reload", how)} ${/** @type {any} */ (names).join(", ")}`).join("; ");
        notice(changed ? t("operate.reloaded", { names: oneLine(changed, 160) }) : t("operate.unchanged"), { kind: "good" });
        this.update(this.cx.state);
      } catch (error) {
        const errors = error instanceof ApiError ? error.body?.errors : undefined;
        const told = Array.isArray(errors) ? errors.map((one) => commandBox(String(one))) : [h("p", {}, explain(error))];
        dialog(t("operate.refused"), () => [h("p", {}, t("operate.refused_about")), ...told], { class: "wide" });
      }
    });
  }
}

/** @param {any[]} components */
function componentTable(components) {
  const order = ["source", "transform", "sink"];
  const rows = [...components].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind)).map((one) => {
    const counts = one.accounting ?? {};
    const done = counts.delivered ?? counts.left ?? counts.entered ?? 0;
    const lost = (counts.dead_lettered ?? 0) + total(counts.dropped);
    return [h("span", {}, h("bdi", { class: "mono" }, one.name), h("span", { class: "muted" }, ` ${one.type}`)), stateBadge(one.state), h("span", { class: "num" }, rateText(one)), h("span", { class: "num" }, compact(done)),
      h("span", { class: "num" }, one.kind === "sink" ? compact(counts.waiting ?? 0) : "–"), h("span", { class: `num${lost ? " error-text" : ""}` }, number(lost)), one.last_event ? timeTag(one.last_event) : "–", h("span", { class: "error-text last-error", dir: "auto", title: oneLine(lastError(one), 500) }, oneLine(lastError(one), 300))];
  });
  return table([t("col.component"), t("col.state"), t("col.rate"), t("col.done"), t("col.waiting"), t("col.failed"), t("col.last"), t("col.last_error")], rows, 7);
}

/** What went wrong last in a component. @param {any} one */
export function lastError(one) {
  return String(one.last_error?.message ?? one.last_error ?? "");
}

/** @param {any} counts */
function total(counts) {
  return Object.values(counts ?? {}).reduce((sum, one) => sum + Number(one), 0);
}

/** @param {any} one a component */
export function rateText(one) {
  const rate = one.rates?.received ?? one.rates?.entered ?? one.rates?.delivered ?? 0;
  return t("unit.rate", { rate: compact(rate) });
}

const STATES = /** @type {Record<string, string>} */ ({ running: "success", starting: "in_progress", degraded: "warning", retrying: "warning", held: "error", stopped: "none" });

/** @param {string} state */
export function stateKind(state) {
  return STATES[state] ?? "warning";
}

/** @param {string} state */
function stateBadge(state) {
  return h("span", { class: `status s-${stateKind(state)}` }, h("i", { class: "dot" }), word("state", state));
}
