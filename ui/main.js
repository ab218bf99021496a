// The page: who is there, which view is seen, and where everything else hangs.

import { h, icon, replace } from "./dom.js";
import { load, t } from "./i18n.js";
import { choose, settings } from "./settings.js";
import { format, parse } from "./state.js";
import { ApiError, login, logout, me as whoAmI, onExpired } from "./api.js";
import { errorState, menu, mountNotices } from "./parts.js";
import { brand, loginView } from "./views/login.js";
import { EventsView } from "./views/events.js";
import { OverviewView } from "./views/overview.js";
import { PeopleView } from "./views/people.js";
import { OperateView } from "./views/operate.js";
import { help } from "./views/help.js";

/** @typedef {import("./state.js").State} State */

/**
 * What a view may use.
 * @typedef {object} Context
 * @property {import("./api.js").Me} me
 * @property {State} state
 * @property {(patch: Partial<State>, how?: { replace?: boolean }) => void} go changes the state
 * @property {() => void} refresh shows the same state anew
 * @property {() => void} rebuild builds the whole page anew, in another language or zone
 * @property {() => void} expired
 */

/** @type {Record<string, new (cx: Context) => { element: HTMLElement, update: (state: State, before?: State) => void, destroy: () => void, key?: (event: KeyboardEvent) => boolean }>} */
const VIEWS = { events: EventsView, overview: OverviewView, people: PeopleView, operate: OperateView };

class App {
  /** @type {import("./api.js").Me} */
  me = { user: "", role: "user", expires: null };
  state = parse(location.search);
  /** @type {InstanceType<typeof VIEWS[string]> | undefined} */
  view;
  shownView = "";
  place = h("main", { class: "view", id: "view" });
  isAsking = false;

  async start() {
    theme();
    await load();
    mountNotices();
    onExpired(() => this.expired());
    addEventListener("popstate", () => this.#show(parse(location.search)));
    document.addEventListener("click", (event) => this.#followed(event));
    document.addEventListener("keydown", (event) => this.#key(event));
    await this.#enter();
  }

  /** By the token of a link, which leaves the address at once, or by the session that is there. */
  async #enter() {
    const given = new URLSearchParams(location.search);
    const token = given.get("token");
    if (token !== null) {
      given.delete("token");
      history.replaceState(null, "", given.size ? `?${given}` : location.pathname);
    }
    try {
      this.me = token ? await login({ token }) : await whoAmI();
      this.#entered(this.me);
    } catch (error) {
      const status = error instanceof ApiError ? error.status : -1;
      if (status === 401 && !token) this.#ask({});
      else if (status === 401) this.#ask({ message: t("login.bad_link") });
      else if (status === 403) this.#ask({ message: /** @type {Error} */ (error).message });
      else replace(document.body, h("main", { class: "login" }, errorState(error, () => location.reload())));
      mountNotices();
    }
  }

  /** @param {{ ended?: boolean, message?: string }} why */
  #ask(why) {
    document.title = `${t("login.title")} · Weir`;
    replace(document.body, loginView((me) => this.#entered(me), why));
  }

  /** @param {import("./api.js").Me} me */
  #entered(me) {
    if (me.role === "ingest") return this.#ask({ message: t("login.sender") });
    this.me = me;
    this.isAsking = false;
    this.rebuild();
  }

  /** The session has ended: the page stays as it is behind the question who is there. */
  expired() {
    if (this.isAsking) return;
    this.isAsking = true;
    this.view?.destroy();
    this.view = undefined;
    this.#ask({ ended: true });
    mountNotices();
  }

  async rebuild() {
    await load();
    this.view?.destroy();
    this.view = undefined;
    this.nav = h("nav", { class: "nav", "aria-label": t("nav.label") });
    const skip = h("a", { class: "skip", href: "?", onclick: (/** @type {Event} */ event) => { event.preventDefault(); this.place.querySelector("input")?.focus(); } }, t("skip"));
    replace(document.body, h("header", { class: "top" }, skip, brand(), this.nav, h("span", { class: "grow" }), this.#menu()), this.place);
    mountNotices();
    this.#show(this.state);
  }

  views() {
    return Object.keys(VIEWS).filter((name) => name !== "operate" || this.me.role === "admin");
  }

  /** @param {Partial<State>} patch @param {{ replace?: boolean }} [how] */
  go(patch, { replace: isReplaced = false } = {}) {
    const next = { ...this.state, ...patch };
    const address = format(next) === "?" ? location.pathname : format(next);
    if (isReplaced) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    this.#show(next);
  }

  refresh() {
    this.#show(this.state, true);
  }

  /** @param {State} state @param {boolean} [isAnew] */
  #show(state, isAnew = false) {
    if (!this.nav) return;
    if (!this.views().includes(state.view)) state = { ...state, view: "events" };
    const before = this.state;
    this.state = state;
    const names = /** @type {const} */ ({ events: "nav.events", overview: "nav.overview", people: this.me.role === "user" ? "nav.sessions" : "nav.people", operate: "nav.operate" });
    const name = (/** @type {string} */ view) => t(names[/** @type {keyof typeof names} */ (view)]);
    replace(this.nav, ...this.views().map((view) => h("a", { href: format({ view, ...(view === "events" || view === "people" ? { range: state.range, from: state.from, to: state.to } : {}) }), "aria-current": view === state.view ? "page" : null }, icon(/** @type {any} */ (view)), h("span", {}, name(view)))));
    document.title = `${name(state.view)} · Weir`;
    if (this.view && this.shownView === state.view) return this.view.update(state, isAnew ? undefined : before);
    this.view?.destroy();
    this.shownView = state.view;
    this.view = new VIEWS[state.view](this);
    replace(this.place, this.view.element);
    this.view.update(state);
  }

  #menu() {
    const button = h("button", { type: "button", class: "button user-button", "aria-label": `${this.me.user}: ${t("menu.label")}` }, h("span", { class: "avatar", "aria-hidden": "true", "data-letter": [...this.me.user][0]?.toUpperCase() ?? "?" }), h("bdi", { class: "user-name" }, this.me.user), icon("down"));
    const place = h("span", { class: "user-menu" }, button);
    const { close } = menu(button, () => this.#menuContent(() => close()));
    return place;
  }

  /** @param {() => void} close */
  #menuContent(close) {
    const pick = (/** @type {"language" | "theme" | "zone"} */ name, /** @type {string} */ value) => {
      choose(name, value);
      close();
      theme();
      if (name !== "theme") this.rebuild();
    };
    const group = (/** @type {"language" | "theme" | "zone"} */ name, /** @type {[string, string][]} */ choices) => h("div", { class: "menu-row" }, h("span", {}, t(`menu.${name}`)), h("span", { class: "segments", role: "group", "aria-label": t(`menu.${name}`) },
      ...choices.map(([value, text]) => h("button", { type: "button", class: "segment", lang: name === "language" ? value : null, "aria-pressed": String(settings[name] === value), onclick: () => pick(name, value) }, text))));
    return [
      h("div", { class: "menu-head" }, h("bdi", {}, this.me.user), h("span", { class: "muted" }, t(`role.${this.me.role}`))),
      group("theme", [["auto", t("theme.auto")], ["light", t("theme.light")], ["dark", t("theme.dark")]]),
      group("language", [["en", "English"], ["fa", "فارسی"]]),
      group("zone", [["local", t("zone.local")], ["utc", "UTC"]]),
      h("button", { type: "button", class: "menu-item", onclick: () => { close(); help(); } }, h("span", {}, t("help.title")), h("kbd", {}, "?")),
      h("button", { type: "button", class: "menu-item", onclick: () => this.#leave() }, t("menu.logout")),
    ];
  }

  async #leave() {
    await logout().catch(() => {});
    this.view?.destroy();
    this.view = undefined;
    this.nav = undefined;
    history.replaceState(null, "", location.pathname);
    this.state = parse("");
    this.#ask({});
  }

  /** Links to another state need no new document. @param {MouseEvent} event */
  #followed(event) {
    const link = /** @type {HTMLElement} */ (event.target)?.closest?.('a[href^="?"]');
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const state = parse(link.getAttribute("href") ?? "");
    this.go(state);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable;
    if (event.defaultPrevented || isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open], :popover-open")) return;
    if (event.key === "?") help();
    else if (event.key === "g") this.go({ view: this.views()[(this.views().indexOf(this.state.view) + 1) % this.views().length], event: "", user: "", session: "", tab: "" });
    else if (!this.view?.key?.(event)) return;
    event.preventDefault();
  }
}

function theme() {
  document.documentElement.dataset.theme = settings.theme;
}

new App().start();
