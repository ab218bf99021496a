// The search box: the query language with completion, history, and errors under their column.

import { h, icon, replace } from "./dom.js";
import { t, number } from "./i18n.js";
import { get } from "./api.js";
import { placeAt, quote } from "./query.js";
import { history } from "./settings.js";

/** Suggestions that are shown. */
const MAX_SHOWN = 10;
/** Milliseconds without a key before the API is asked. */
const PAUSE = 120;

/** @typedef {{ text: string, hint: string, apply: () => void }} Suggestion */

export class SearchBox {
  /** @type {Suggestion[]} */
  #shown = [];
  #at = -1;
  #asked = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {(query: string) => void} onSearch */
  constructor(onSearch) {
    this.onSearch = onSearch;
    this.input = h("input", {
      type: "text", class: "search-input", dir: "auto", spellcheck: "false", autocomplete: "off", autocapitalize: "off", enterkeyhint: "search",
      role: "combobox", "aria-expanded": "false", "aria-controls": "suggestions", "aria-autocomplete": "list",
      "aria-label": t("search.label"), placeholder: t("search.placeholder"),
    });
    this.list = h("div", { class: "suggestions", id: "suggestions", role: "listbox", "aria-label": t("search.suggestions"), hidden: true });
    this.error = h("div", { class: "search-error", role: "alert", hidden: true });
    const clear = h("button", { type: "button", class: "icon-button clear", "aria-label": t("search.clear"), onclick: () => this.#submit("") }, icon("close"));
    this.element = h("div", { class: "search" }, icon("search"), this.input, clear, h("kbd", { class: "key-hint", "aria-hidden": "true" }, "/"), this.list, this.error);
    this.input.addEventListener("input", () => this.#changed());
    this.input.addEventListener("focus", () => this.#changed());
    this.input.addEventListener("blur", () => this.#hide());
    this.input.addEventListener("keydown", (event) => this.#key(event));
  }

  get value() {
    return this.input.value;
  }

  set value(text) {
    this.input.value = text;
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  /** Shows what the API says of a query, with the sign under the column that it means. @param {string} detail */
  showError(detail) {
    const [first, query, caret, ...rest] = detail.replace(/^q: /, "").split("\n");
    this.error.hidden = false;
    this.input.setAttribute("aria-invalid", "true");
    replace(this.error, h("strong", {}, first), query && h("pre", { dir: "ltr" }, `${query}\n${caret ?? ""}`), ...rest.map((line) => h("div", { class: "muted" }, line)));
  }

  clearError() {
    this.error.hidden = true;
    this.input.removeAttribute("aria-invalid");
  }

  /** @param {string} query */
  #submit(query) {
    this.input.value = query;
    this.#hide();
    this.onSearch(query.trim());
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (this.#shown.length === 0) return;
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.#at = (this.#at + step + this.#shown.length + 1) % (this.#shown.length + 1);
      if (this.#at === this.#shown.length) this.#at = -1;
      this.#draw();
    } else if (event.key === "Tab" && this.#shown.length > 0 && !event.shiftKey && this.input.value) {
      event.preventDefault();
      this.#shown[Math.max(0, this.#at)].apply();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.#at >= 0) this.#shown[this.#at].apply();
      else this.#submit(this.input.value);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      if (this.list.hidden) this.input.blur();
      this.#hide();
    }
  }

  #hide() {
    clearTimeout(this.#timer);
    this.#asked++;
    this.#shown = [];
    this.#at = -1;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  #changed() {
    clearTimeout(this.#timer);
    const asked = ++this.#asked;
    this.#timer = setTimeout(async () => {
      const found = await this.#suggest().catch(() => []);
      if (asked !== this.#asked || document.activeElement !== this.input) return;
      this.#shown = found.slice(0, MAX_SHOWN);
      this.#at = -1;
      this.#draw();
    }, PAUSE);
  }

  /** @returns {Promise<Suggestion[]>} */
  async #suggest() {
    const query = this.input.value;
    if (query.trim() === "") return history().map((text) => ({ text, hint: t("search.history"), apply: () => this.#submit(text) }));
    const place = placeAt(query, this.input.selectionStart ?? query.length);
    if (!place) return [];
    const fill = (/** @type {string} */ text, /** @type {string} */ after) => () => {
      this.input.setRangeText(text + after, place.start, place.end, "end");
      this.#changed();
    };
    if (place.kind === "value") {
      const answer = await get(`api/fields/${encodeURIComponent(place.field)}/values`, { prefix: place.prefix }, { quiet: true });
      const values = answer.values.filter((/** @type {any} */ one) => one.value !== place.prefix);
      return values.map((/** @type {any} */ one) => ({ text: one.value, hint: number(one.count), apply: fill(quote(one.value), " ") }));
    }
    if (place.prefix === "") return [];
    const answer = await get("api/fields", { prefix: place.prefix }, { quiet: true });
    const isHas = query.slice(0, place.start).endsWith("has:");
    return answer.fields.map((/** @type {string} */ field) => ({ text: isHas ? field : `${field}:`, hint: "", apply: fill(field, isHas ? " " : ":") }));
  }

  #draw() {
    const items = this.#shown.map((one, nth) => h("div", {
      class: "suggestion", role: "option", id: `suggestion-${nth}`, "aria-selected": String(nth === this.#at),
      onpointerdown: (/** @type {Event} */ event) => { event.preventDefault(); one.apply(); },
    }, h("bdi", {}, one.text), h("span", { class: "muted" }, one.hint)));
    replace(this.list, ...items);
    this.list.hidden = items.length === 0;
    this.input.setAttribute("aria-expanded", String(items.length > 0));
    if (this.#at >= 0) this.input.setAttribute("aria-activedescendant", `suggestion-${this.#at}`);
    else this.input.removeAttribute("aria-activedescendant");
  }
}
