// Events: one search box, their number over time, and the list, which goes on by itself.

import { h, icon, iconButton, put, replace } from "../dom.js";
import { duration, millis, number, t, time, word, zone } from "../i18n.js";
import { ApiError, get } from "../api.js";
import { countOf, Live } from "../stream.js";
import { errorText, marks, oneLine } from "../text.js";
import { span } from "../state.js";
import { term, withTerm, words } from "../query.js";
import { remember } from "../settings.js";
import { MAX_ROWS, Pages } from "../pages.js";
import { VirtualList } from "../list.js";
import { Histogram } from "../histogram.js";
import { SearchBox } from "../searchbox.js";
import { announce, curl, curlButton, emptyState, errorState, notice, skeleton, statusClass } from "../parts.js";
import { chips } from "./chips.js";
import { rangeButton } from "./range.js";
import { exportDialog } from "./export.js";
import { EventPanel } from "./event.js";
import { firstEvent } from "./first.js";

/** Live rows above the list; with more, the list is fetched again. */
const MAX_HEAD = 5000;
/** Rows that wait while the list is paused; of more only the number is known. */
const MAX_WAITING = 5000;
/** Keys that wait for the rows they are about. */
const MAX_AHEAD = 16;
/** Milliseconds after which the list is fetched once more, since a place to read is a little behind the stream. */
const SETTLE = 1500;
/** Milliseconds without events after which the chart is fetched again. */
const QUIET = 3000;
/** Milliseconds out of sight after which the stream ends: a browser has few connections for all its tabs. */
const ASLEEP = 60_000;
/** Milliseconds between two notices of the same kind. */
const NOTICE_EVERY = 10_000;

/** Events that tell who read what. */
const READS = "-event_type:(activity_read OR admin_view_activity_logs OR activity_export)";
const [ROW, NARROW_ROW] = [34, 58];
const narrow = matchMedia("(max-width: 720px)");

/** @typedef {import("../stream.js").Item} Item */

export class EventsView {
  /** @type {Item[]} */
  #head = [];
  /** @type {Item[]} */
  #waiting = [];
  #waitingCount = 0;
  #isPaused = false;
  /** @type {Pages | undefined} */
  #pages;
  /** @type {Live | undefined} */
  #live;
  #abort = new AbortController();
  #settle = 0;
  #recount = 0;
  #sleep = 0;
  #isAsleep = false;
  #spokenAt = 0;
  #unspoken = 0;
  #noticedAt = 0;
  /** Keys for rows that are still being fetched. @type {KeyboardEvent[]} */
  #ahead = [];
  /** Events that came to the list since its pages were fetched. */
  #newer = 0;
  /** Of the search whose list is being fetched. @type {AbortSignal | undefined} */
  #loading;
  /** Errors that came since the search began. */
  #errors = 0;
  /** @type {string[]} */
  #words = [];

  /** @param {import("../main.js").Context} cx */
  constructor(cx) {
    this.cx = cx;
    this.search = new SearchBox((q) => {
      remember(q);
      cx.go({ q, event: "" });
    });
    this.histogram = new Histogram((from, to) => this.#brushed(from, to), () => this.#loadHistogram());
    this.list = new VirtualList(
      { count: () => this.#count(), make: makeRow, draw: (row, index) => this.#draw(row, index), seen: (first, last) => this.#seen(first, last) },
      { label: t("events.list"), height: narrow.matches ? NARROW_ROW : ROW, columns: 6 },
    );
    this.list.element.addEventListener("click", (event) => this.#clicked(event));
    this.list.element.addEventListener("scroll", () => this.list.isAtTop && !this.#isPaused && this.#flush(), { passive: true });
    this.count = h("span", { class: "count", "aria-live": "off" });
    this.pill = h("button", { type: "button", class: "pill", hidden: true, onclick: () => this.#resume() });
    this.state = h("div", { class: "list-state" });
    this.chips = h("div", { class: "chips" });
    this.ranges = h("span", { class: "range-place" });
    this.liveButton = h("button", { type: "button", class: "button live-button", onclick: () => this.#toggleLive() });
    this.panel = new EventPanel(cx, { step: (by) => this.#step(by), filter: (field, value, out) => this.#filter(field, value, out) });
    this.element = h("section", { class: "events", "aria-label": t("nav.events") }, h("div", { class: "events-main" }, h("h1", { class: "hidden-text" }, t("nav.events")), this.#toolbar(), this.histogram.element, header(), h("div", { class: "list-place" }, this.list.element, this.state, this.pill)), this.panel.element);
    narrow.addEventListener("change", this.#resized);
    document.addEventListener("visibilitychange", this.#seenOrNot);
  }

  /** Out of sight the stream ends after a while; back in sight the list begins anew. */
  #seenOrNot = () => {
    clearTimeout(this.#sleep);
    if (document.hidden) {
      this.#sleep = setTimeout(() => {
        if (!this.#live || this.#isPaused) return;
        this.#stopLive();
        this.#isAsleep = true;
      }, ASLEEP);
    } else if (this.#isAsleep) this.#restart(this.cx.state);
  };

  #toolbar() {
    const canExport = this.cx.me.role !== "viewer";
    return h("div", { class: "toolbar" },
      h("div", { class: "toolbar-row" }, this.search.element,
        h("div", { class: "toolbar-buttons" }, this.ranges, this.liveButton,
          canExport && iconButton("export", t("export.title"), () => this.#export()),
          curlButton(() => curl("api/logs", { ...this.#params(), limit: 100 })))),
      h("div", { class: "toolbar-row second" }, this.chips, this.count));
  }

  #resized = () => {
    this.list.height = narrow.matches ? NARROW_ROW : ROW;
    this.list.refresh();
  };

  destroy() {
    this.#abort.abort();
    this.#stopLive();
    this.#pages?.stop();
    clearTimeout(this.#settle);
    clearTimeout(this.#recount);
    this.list.destroy();
    this.histogram.destroy();
    this.panel.destroy();
    narrow.removeEventListener("change", this.#resized);
    document.removeEventListener("visibilitychange", this.#seenOrNot);
    clearTimeout(this.#sleep);
  }

  /** @param {import("../state.js").State} state @param {import("../state.js").State} [before] */
  update(state, before) {
    const isSame = before && ["q", "range", "from", "to", "reads", "live"].every((name) => /** @type {any} */ (before)[name] === /** @type {any} */ (state)[name]);
    if (!isSame) this.#restart(state);
    this.panel.show(state.event);
    this.element.classList.toggle("has-event", state.event !== "");
    if (state.event) this.#mark(state.event);
  }

  /** @param {import("../state.js").State} state */
  #restart(state) {
    this.search.value = state.q;
    this.search.clearError();
    this.#words = words(state.q);
    this.#errors = 0;
    replace(this.chips, ...chips(this.cx));
    replace(this.ranges, rangeButton(this.cx));
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#stopLive();
    this.#isPaused = false;
    this.#isAsleep = false;
    this.#ahead = [];
    this.list.selected = -1;
    this.list.element.scrollTop = 0;
    if (this.#canLive()) this.#startLive();
    this.#load(true);
    this.#loadHistogram();
    this.#showLive();
  }

  #query() {
    const { q, reads } = this.cx.state;
    if (reads || this.cx.me.role === "user" || /activity_read|activity_export|admin_view/.test(q)) return q;
    return q ? `(${q}) ${READS}` : READS;
  }

  #params() {
    const { from, to } = span(this.cx.state, Date.now());
    const iso = (/** @type {number | undefined} */ at) => (at === undefined ? "" : new Date(at).toISOString());
    return { q: this.#query(), start_date: iso(from), end_date: iso(to) };
  }

  /** @param {boolean} isFresh whether what is shown now is about something else */
  async #load(isFresh) {
    const before = this.#pages;
    const pages = new Pages(this.#params(), () => this.#pages === pages && this.#changed(), () => this.#newer);
    if (isFresh) {
      before?.stop();
      this.#pages = undefined;
      this.#head = [];
      this.#newer = 0;
      this.list.refresh();
      replace(this.state, skeleton(12));
      replace(this.count);
    }
    const signal = this.#abort.signal;
    this.#loading = signal;
    try {
      await pages.first();
    } catch (error) {
      if (!signal.aborted && isFresh) this.#failed(error);
      return;
    } finally {
      if (this.#loading === signal) this.#loading = undefined;
    }
    if (signal.aborted) return pages.stop();
    before?.stop();
    this.#pages = pages;
    // What came while the page was fetched, and is in it, is shown once.
    const newest = pages.newestSeq;
    const isNewer = (/** @type {Item} */ item) => (item.kind === "gap" ? isFresh : item.row.seq > newest);
    this.#head = this.#head.filter(isNewer);
    const waiting = this.#waiting.filter(isNewer);
    this.#waitingCount -= countOf(this.#waiting) - countOf(waiting);
    this.#waiting = waiting;
    this.#showWaiting();
    this.#newer = eventsOf(this.#head);
    this.#changed();
    if (this.cx.state.event) this.#mark(this.cx.state.event);
    for (const event of this.#ahead.splice(0)) this.key(event);
    clearTimeout(this.#settle);
    if (isFresh && this.#live) this.#settle = setTimeout(() => this.list.isAtTop && !this.#isPaused && this.#load(false), SETTLE);
  }

  /** @param {unknown} error */
  async #failed(error) {
    if (error instanceof ApiError && error.status === 400 && error.message.startsWith("q:")) {
      // Columns are those of what was typed, without what the page adds to it.
      const own = await get("api/logs", { q: this.cx.state.q, limit: 1 }, { signal: this.#abort.signal }).catch((failure) => failure);
      this.search.showError(own instanceof ApiError ? own.message : error.message);
      replace(this.state, emptyState(t("search.wrong")));
    } else replace(this.state, errorState(error, () => this.#restart(this.cx.state)));
  }

  async #loadHistogram() {
    const signal = this.#abort.signal;
    const { q, start_date, end_date } = this.#params();
    try {
      const answer = await get("api/logs/histogram", { q, start_date, end_date, tz: zone() }, { signal });
      const { from, to } = span(this.cx.state, Date.now());
      if (!signal.aborted) this.histogram.show(answer, { from, to });
    } catch {
      // The list says what is wrong.
    }
  }

  /** More rows are there, or others. */
  #changed() {
    const pages = this.#pages;
    if (!pages) return;
    const total = pages.total + this.#newer;
    const text = t(pages.isAtLeast ? "events.at_least" : "events.count", { n: total });
    replace(this.count, text, total > MAX_ROWS && h("span", { class: "muted" }, ` · ${t("events.most", { n: MAX_ROWS })}`));
    if (total === 0 && this.#head.length === 0) this.#showEmpty();
    else replace(this.state);
    this.list.refresh();
  }

  async #showEmpty() {
    const { q, range } = this.cx.state;
    if (!q && range === "all") return replace(this.state, await firstEvent(this.cx));
    replace(this.state, emptyState(t("events.none"),
      h("p", { class: "muted" }, q ? t("events.none_query") : t("events.none_range")),
      h("div", { class: "button-row" },
        range !== "all" && h("button", { type: "button", class: "button", onclick: () => this.cx.go({ range: "all", from: "", to: "" }) }, t("events.all_time")),
        q && h("button", { type: "button", class: "button", onclick: () => this.cx.go({ q: "" }) }, t("search.clear")))));
    if (q) return;
    const any = await get("api/logs", { limit: 1, q: this.#query() }).catch(() => undefined);
    if (any?.total === 0 && this.#count() === 0) replace(this.state, await firstEvent(this.cx));
  }

  #count() {
    return this.#head.length + (this.#pages?.count ?? 0);
  }

  /** @param {number} index @returns {Item | undefined} */
  #item(index) {
    if (index < this.#head.length) return this.#head[index];
    const row = this.#pages?.row(index - this.#head.length);
    return row && { kind: "event", row };
  }

  /** @param {number} first @param {number} last */
  #seen(first, last) {
    const shift = this.#head.length;
    if (last >= shift) this.#pages?.want(Math.max(0, first - shift), last - shift);
  }

  // --- rows ---

  /** @param {HTMLElement} row @param {number} index */
  #draw(row, index) {
    const item = this.#item(index);
    row.classList.toggle("gap", item?.kind === "gap");
    row.classList.toggle("pending", !item);
    row.classList.toggle("fresh", index < this.#head.length);
    row.classList.toggle("open", item?.kind === "event" && idOf(item.row) === this.cx.state.event);
    const [at, status, user, type, what, took] = cells(row);
    for (const cell of [at, status.text, user.text, type.text, what, took]) cell.replaceChildren();
    status.cell.className = "cell c-status";
    if (item?.kind === "gap") what.append(icon("alert"), t("live.gap", { n: item.missed }));
    if (item?.kind !== "event") return;
    const event = item.row;
    at.textContent = time(millis(event.timestamp ?? event.received_at), "row");
    status.text.textContent = event.status ? word("status", oneLine(event.status, 40)) : "";
    status.cell.classList.add(`s-${event.status ? statusClass(event.status) : "none"}`);
    user.text.textContent = oneLine(event.user_display_name || event.user_email || (event.user_id ?? ""), 80);
    user.text.title = user.text.textContent === String(event.user_id ?? "") ? "" : oneLine(event.user_id ?? "", 80);
    type.text.textContent = oneLine(event.event_type ?? "", 80);
    put(what, summary(event, this.#words));
    took.textContent = duration(event.duration_ms);
    Object.assign(status.cell.dataset, { field: "status", value: event.status ?? "" });
    Object.assign(user.cell.dataset, { field: "user_id", value: event.user_id ?? "" });
    Object.assign(type.cell.dataset, { field: "event_type", value: event.event_type ?? "" });
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const row = /** @type {HTMLElement | null} */ (target.closest(".row"));
    if (!row) return;
    const button = /** @type {HTMLElement | null} */ (target.closest("[data-act]"));
    const cell = /** @type {HTMLElement | null} */ (target.closest("[data-field]"));
    if (button && cell?.dataset.value) return this.#filter(cell.dataset.field ?? "", cell.dataset.value, button.dataset.act === "out");
    const index = Number(row.dataset.index);
    this.list.select(index);
    this.#open(index);
  }

  /** @param {string} field @param {string} value @param {boolean} isOut */
  #filter(field, value, isOut) {
    const q = withTerm(this.cx.state.q, term(field, value), isOut);
    remember(q);
    this.cx.go({ q, event: "" });
  }

  /** @param {number} index */
  #open(index) {
    const item = this.#item(index);
    if (item?.kind === "event") this.cx.go({ event: idOf(item.row) }, { replace: this.cx.state.event !== "" });
  }

  /** Opens the next or the previous event. @param {number} by */
  #step(by) {
    let index = Math.max(0, this.list.selected) + by;
    while (this.#item(index)?.kind === "gap") index += by;
    if (index < 0 || index >= this.#count()) return;
    this.list.select(index);
    this.#open(index);
  }

  /** @param {string} id */
  #mark(id) {
    const inHead = this.#head.findIndex((item) => item.kind === "event" && idOf(item.row) === id);
    const inPages = inHead < 0 ? (this.#pages?.indexOf(id) ?? -1) : -1;
    const index = inHead >= 0 ? inHead : inPages >= 0 ? inPages + this.#head.length : -1;
    if (index >= 0 && index !== this.list.selected) this.list.select(index);
    this.list.refresh();
  }

  // --- live ---

  #canLive() {
    return this.cx.state.live && this.cx.state.range !== "custom";
  }

  #startLive() {
    const live = new Live(this.#query(), (items) => this.#live === live && this.#arrived(items), () => this.#showLive(), () => this.cx.expired());
    this.#live = live;
    live.start();
  }

  #stopLive() {
    this.#live?.stop();
    this.#live = undefined;
    this.#waiting = [];
    this.#waitingCount = 0;
    this.pill.hidden = true;
  }

  #toggleLive() {
    if (!this.#live) this.cx.go({ live: true, ...(this.cx.state.range === "custom" ? { range: "24h", from: "", to: "" } : {}) });
    else if (this.#live.phase === "failed") this.#restart(this.cx.state);
    else if (this.#isPaused) this.#resume();
    else this.#pause();
  }

  #pause() {
    this.#isPaused = true;
    this.#showLive();
  }

  #resume() {
    this.#isPaused = false;
    this.list.element.scrollTop = 0;
    this.#flush();
    this.#showLive();
  }

  /** @param {Item[]} items */
  #arrived(items) {
    const { from } = span(this.cx.state, Date.now());
    const wanted = items.filter((item) => item.kind === "gap" || from === undefined || !(millis(item.row.timestamp) < from));
    if (wanted.length === 0) return;
    for (const item of wanted) if (item.kind === "event") this.histogram.add(millis(item.row.timestamp ?? item.row.received_at), item.row.status ?? "none");
    // What came while the chart was fetched is in it or not; once it is quiet it is fetched again.
    clearTimeout(this.#recount);
    this.#recount = setTimeout(() => this.#loadHistogram(), QUIET);
    this.#speak(wanted);
    this.#waiting.push(...wanted);
    this.#waitingCount += countOf(wanted);
    // What is too much to keep is fetched again when the list goes on.
    if (this.#waiting.length > MAX_WAITING) this.#waiting = [];
    if (!this.#isPaused && this.list.isAtTop) this.#flush();
    else this.#showWaiting();
  }

  #showWaiting() {
    this.pill.hidden = this.#waitingCount === 0;
    replace(this.pill, icon("up"), t("live.waiting", { n: this.#waitingCount }));
    this.#showLive();
  }

  /** What waits goes to the top of the list. */
  #flush() {
    if (this.#waitingCount === 0) return;
    const isWhole = countOf(this.#waiting) === this.#waitingCount;
    this.#newer += this.#waitingCount - (countOf(this.#waiting) - eventsOf(this.#waiting));
    this.#head.unshift(...this.#waiting.reverse());
    if (this.list.selected >= 0) this.list.selected += this.#waiting.length;
    this.#waiting = [];
    this.#waitingCount = 0;
    this.#showWaiting();
    if ((!isWhole || this.#head.length > MAX_HEAD) && !this.#loading) this.#load(false);
    // Where the API is slower than the events come, the oldest of them are seen again with the next page.
    if (this.#head.length > 2 * MAX_HEAD) this.#head.length = 2 * MAX_HEAD;
    this.#changed();
  }

  /** @param {Item[]} items */
  #speak(items) {
    this.#unspoken += countOf(items);
    const now = Date.now();
    if (now - this.#spokenAt > NOTICE_EVERY) {
      announce(t("live.arrived", { n: this.#unspoken }));
      this.#unspoken = 0;
      this.#spokenAt = now;
    }
    this.#errors += items.filter((item) => item.kind === "event" && item.row.status === "error").length;
    const badge = /** @type {HTMLElement | null} */ (this.chips.querySelector(".chip-badge"));
    if (badge && this.#errors > 0) {
      badge.hidden = false;
      badge.textContent = t("live.errors", { n: this.#errors });
    }
    const isGrave = (/** @type {Item} */ item) => item.kind === "event" && item.row.event_type === "alert";
    const grave = items.find(isGrave);
    if (grave?.kind === "event" && now - this.#noticedAt > NOTICE_EVERY) {
      this.#noticedAt = now;
      const id = idOf(grave.row);
      notice(t("live.alert", { text: oneLine(grave.row.description ?? "", 120) }), { kind: "error", action: t("open"), onaction: () => this.cx.go({ event: id }) });
    }
  }

  #showLive() {
    const phase = this.#live ? (this.#isPaused ? "paused" : this.#live.phase) : "off";
    const names = /** @type {const} */ ({ off: "live.off", paused: "live.paused", connecting: "live.connecting", live: "live.live", reconnecting: "live.reconnecting", failed: "live.failed", stopped: "live.off" });
    const waiting = this.#isPaused && this.#waitingCount > 0 && h("span", { class: "badge" }, number(this.#waitingCount));
    this.liveButton.className = `button live-button is-${phase}`;
    this.liveButton.title = this.#live?.reason || t("live.title");
    this.liveButton.setAttribute("aria-pressed", String(phase === "live"));
    replace(this.liveButton, phase === "off" || phase === "paused" ? icon("play") : phase === "live" ? h("i", { class: "pulse" }) : icon("reload"), h("span", {}, t(names[phase])), waiting);
  }

  // --- the rest ---

  /** @param {number} from @param {number} to */
  #brushed(from, to) {
    this.cx.go({ range: "custom", from: new Date(from).toISOString(), to: new Date(to).toISOString(), event: "" });
  }

  #export() {
    exportDialog(this.#params(), (this.#pages?.total ?? 0) + this.#head.length);
  }

  /** Keeps a key that is about rows which are still being fetched: whoever types ahead of a slow network means those. @param {KeyboardEvent} event */
  #isAhead(event) {
    if (this.#pages || !this.#loading || !["j", "k", "Enter"].includes(event.key) || ![document.body, this.list.element].includes(/** @type {HTMLElement} */ (document.activeElement))) return false;
    if (this.#ahead.length < MAX_AHEAD) this.#ahead.push(event);
    return true;
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether the key meant something here */
  key(event) {
    if (this.#isAhead(event)) return true;
    const { list } = this;
    const keys = /** @type {Record<string, () => void>} */ ({
      "/": () => this.search.focus(),
      j: () => (this.cx.state.event ? this.#step(1) : list.select(list.selected + 1)),
      k: () => (this.cx.state.event ? this.#step(-1) : list.select(Math.max(0, list.selected - 1))),
      Enter: () => this.#open(list.selected),
      Escape: () => this.cx.state.event && this.cx.go({ event: "" }),
      l: () => this.cx.go({ live: !this.cx.state.live }),
      p: () => this.#live && this.#toggleLive(),
      e: () => this.cx.me.role !== "viewer" && this.#export(),
      Home: () => list.select(0),
    });
    const inList = document.activeElement === list.element;
    if (inList) Object.assign(keys, { ArrowDown: keys.j, ArrowUp: keys.k, PageDown: () => list.select(list.selected + 20), PageUp: () => list.select(Math.max(0, list.selected - 20)) });
    if (event.key === "Enter" && !inList && document.activeElement !== document.body) return false;
    const act = keys[event.key];
    act?.();
    return act !== undefined;
  }
}

/** How many of the items are events. @param {Item[]} items */
function eventsOf(items) {
  return items.filter((item) => item.kind === "event").length;
}

/** @param {import("../api.js").Row} row */
function idOf(row) {
  return String(row.id ?? row.seq ?? "");
}

function header() {
  const names = /** @type {const} */ (["col.time", "col.status", "col.user", "col.type", "col.what", "col.duration"]);
  const classes = ["time", "status", "user", "type", "what", "took"];
  return h("div", { class: "list-header", "aria-hidden": "true" }, ...names.map((name, nth) => h("span", { class: `c-${classes[nth]}` }, t(name))));
}

/** @param {HTMLElement} row */
function makeRow(row) {
  const filters = () => h("span", { class: "filters" },
    h("button", { type: "button", "data-act": "in", tabindex: -1, "aria-label": t("filter.in"), title: t("filter.in") }, icon("plus")),
    h("button", { type: "button", "data-act": "out", tabindex: -1, "aria-label": t("filter.out"), title: t("filter.out") }, icon("minus")));
  const cell = (/** @type {string} */ name, /** @type {Node[]} */ ...inside) => h("span", { class: `cell c-${name}`, role: "gridcell" }, ...inside);
  put(row, [cell("time"), cell("status", h("i", { class: "dot" }), h("span", { class: "cell-text" }), filters()), cell("user", h("bdi", { class: "cell-text" }), filters()),
    cell("type", h("bdi", { class: "cell-text" }), filters()), cell("what"), cell("took")]);
}

/** @param {HTMLElement} row @returns {any} */
function cells(row) {
  const all = /** @type {HTMLElement[]} */ ([...row.children]);
  const texted = (/** @type {HTMLElement} */ cell) => ({ cell, text: cell.querySelector(".cell-text") });
  return [all[0], texted(all[1]), texted(all[2]), texted(all[3]), all[4], all[5]];
}

/** What an event was, on one line. @param {import("../api.js").Row} event @param {string[]} words */
function summary(event, words) {
  const marked = (/** @type {string} */ text) => marks(text, words).map((part) => (part.isMatch ? h("mark", {}, part.text) : part.text));
  const parts = [];
  if (event.code) parts.push(h("code", { dir: "ltr" }, ...marked(oneLine(String(event.code).trim().replace(/\n\s*/g, " ↵ ")))));
  else if (event.endpoint) parts.push(h("code", { dir: "ltr" }, ...marked(oneLine(`${event.http_method ?? ""} ${event.endpoint}${event.status_code ? ` → ${event.status_code}` : ""}`))));
  if (event.description) parts.push(h("span", { dir: "auto" }, ...marked(oneLine(event.description))));
  if (event.error_message || event.error_type) {
    const text = errorText(event);
    parts.unshift(h("span", { class: "error-text", dir: "auto" }, ...marked(oneLine(text, 160))));
  }
  if (parts.length === 0 && event.entity_type) parts.push(h("span", {}, ...marked(oneLine(`${event.entity_type} ${event.entity_id ?? ""}`))));
  if (parts.length === 0 && event.metadata) parts.push(h("code", { class: "muted", dir: "ltr" }, ...marked(oneLine(event.metadata))));
  if (parts.length === 0 && event.event_type) parts.push(h("span", { class: "muted" }, oneLine(event.event_type, 80)));
  return parts;
}
