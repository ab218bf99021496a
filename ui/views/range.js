// Which time is looked at: presets, or from one moment to another.

import { h, icon } from "../dom.js";
import { t, time, zone } from "../i18n.js";
import { RANGES, span } from "../state.js";
import { choose, settings } from "../settings.js";
import { menu } from "../parts.js";

/** @typedef {keyof typeof import("../lang/en.js").default} Key */

/** @param {import("../main.js").Context} cx */
export function rangeLabel(cx) {
  const { range, from, to } = cx.state;
  if (range !== "custom") return t(/** @type {Key} */ (`range.${range}`));
  return `${from ? time(Date.parse(from), "minute") : "…"} – ${to ? time(Date.parse(to), "minute") : "…"}`;
}

/** @param {import("../main.js").Context} cx */
export function rangeButton(cx) {
  const button = h("button", { type: "button", class: "button", title: t("range.title") }, icon("clock"), h("span", { class: "range-label" }, rangeLabel(cx)));
  const place = h("span", {}, button);
  const { close } = menu(button, () => content(cx, () => close()));
  return place;
}

/** @param {import("../main.js").Context} cx @param {() => void} close */
function content(cx, close) {
  const go = (/** @type {Partial<import("../state.js").State>} */ patch) => {
    close();
    cx.go({ ...patch, event: "" });
  };
  const presets = Object.keys(RANGES).map((range) => h("button", {
    type: "button", class: "menu-item", "aria-pressed": String(cx.state.range === range), onclick: () => go({ range, from: "", to: "" }),
  }, t(/** @type {Key} */ (`range.${range}`))));
  const { from, to } = span(cx.state, Date.now());
  const input = (/** @type {string} */ id, /** @type {number | undefined} */ at) => h("input", { type: "datetime-local", step: 1, id, value: at === undefined ? "" : local(at) });
  const [first, last] = [input("range-from", from), input("range-to", to)];
  const apply = (/** @type {Event} */ event) => {
    event.preventDefault();
    const [a, b] = [moment(first.value), moment(last.value)];
    if (a || b) go({ range: "custom", from: a, to: b });
  };
  const zones = /** @type {const} */ (["local", "utc"]).map((name) => h("button", {
    type: "button", class: "segment", "aria-pressed": String(settings.zone === name), onclick: () => { choose("zone", name); close(); cx.rebuild(); },
  }, t(`zone.${name}`)));
  return [
    h("div", { class: "menu-group" }, ...presets),
    h("form", { class: "form menu-form", onsubmit: apply }, h("label", { for: "range-from" }, t("range.from")), first, h("label", { for: "range-to" }, t("range.to")), last,
      h("button", { type: "submit", class: "button primary" }, t("range.apply"))),
    h("div", { class: "menu-foot" }, h("div", { class: "segments", role: "group", "aria-label": t("zone.title") }, ...zones), h("span", { class: "muted" }, zone())),
  ];
}

/** A moment as an input has it. @param {number} at */
function local(at) {
  const shift = settings.zone === "utc" ? 0 : new Date(at).getTimezoneOffset() * 60_000;
  return new Date(at - shift).toISOString().slice(0, 19);
}

/** @param {string} text */
function moment(text) {
  const at = text ? Date.parse(settings.zone === "utc" ? `${text}Z` : text) : NaN;
  return Number.isNaN(at) ? "" : new Date(at).toISOString();
}
