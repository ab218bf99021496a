// The language of the page: texts, direction, numbers and times.

import { settings } from "./settings.js";
import en from "./lang/en.js";

/** @type {Record<string, any>} */
let texts = en;
let locale = "en-GB";
let plural = new Intl.PluralRules("en");

/** Loads the texts of the language that is chosen. */
export async function load() {
  const isPersian = settings.language === "fa";
  texts = isPersian ? { ...en, ...(await import("./lang/fa.js")).default } : en;
  locale = isPersian ? "fa-IR" : "en-GB";
  plural = new Intl.PluralRules(isPersian ? "fa" : "en");
  formats.clear();
  document.documentElement.lang = settings.language;
  document.documentElement.dir = isPersian ? "rtl" : "ltr";
}

/**
 * A text of the page. `n` is written as a number and chooses between singular and plural.
 * @param {keyof typeof en} key @param {Record<string, any>} [values]
 */
export function t(key, values = {}) {
  let text = texts[key] ?? key;
  if (typeof text === "object") text = text[plural.select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (/** @type {string} */ _, /** @type {string} */ name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : String(value ?? "");
  });
}

/** The word for one of the field's own names, such as a status; others stay as they are. @param {string} family @param {string} name */
export function word(family, name) {
  return texts[`${family}.${name}`] ?? name;
}

/** @type {Map<string, any>} */
const formats = new Map();

/** @template T @param {string} key @param {() => T} make @returns {T} */
function format(key, make) {
  const name = `${key}.${settings.zone}`;
  if (!formats.has(name)) formats.set(name, make());
  return formats.get(name);
}

export const zone = () => (settings.zone === "utc" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);

/** @param {number | null | undefined} value @param {number} [digits] */
export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return format(`n${digits}`, () => new Intl.NumberFormat(locale, { maximumFractionDigits: digits })).format(value);
}

/** Short, as axes and cards have it: 1.2M. @param {number} value */
export function compact(value) {
  if (Math.abs(value) < 10_000) return number(value, Math.abs(value) < 10 ? 1 : 0);
  return format("compact", () => new Intl.NumberFormat(settings.language === "fa" ? "fa-IR" : "en-US", { notation: "compact", maximumFractionDigits: 1 })).format(value);
}

/** @param {number | null | undefined} value of 100 */
export function percent(value) {
  if (value === null || value === undefined) return "–";
  return format("percent", () => new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 })).format(value / 100);
}

/** Milliseconds in the unit that people would choose. @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(Number(ms))) return "";
  const value = Number(ms);
  if (value < 1) return `${number(value, 2)} ${t("unit.ms")}`;
  if (value < 1000) return `${number(value, value < 10 ? 1 : 0)} ${t("unit.ms")}`;
  if (value < 60_000) return `${number(value / 1000, value < 10_000 ? 2 : 1)} ${t("unit.s")}`;
  if (value < 3_600_000) return `${number(value / 60_000, 1)} ${t("unit.min")}`;
  return `${number(value / 3_600_000, 1)} ${t("unit.h")}`;
}

/** @param {number | null | undefined} value */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [amount, unit] = [value, 0];
  while (amount >= 1024 && unit < units.length - 1) [amount, unit] = [amount / 1024, unit + 1];
  return `${number(amount, unit && amount < 100 ? 1 : 0)} ${units[unit]}`;
}

/** A time as milliseconds, from RFC 3339 or an epoch number. @param {unknown} value */
export function millis(value) {
  if (typeof value === "number") return value < 1e11 ? value * 1000 : value;
  return typeof value === "string" ? Date.parse(value) : NaN;
}

/** @type {Record<string, Intl.DateTimeFormatOptions>} */
const TIMES = {
  row: { month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" },
  full: { dateStyle: "full", timeStyle: "medium", hourCycle: "h23" },
  exact: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" },
  minute: { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  day: { month: "short", day: "numeric" },
  weekday: { weekday: "short", month: "short", day: "numeric" },
  clock: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  seconds: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
};

/** @param {number} at milliseconds @param {keyof typeof TIMES} shape */
export function time(at, shape) {
  if (!Number.isFinite(at)) return "–";
  const options = { ...TIMES[shape], timeZone: zone() };
  return format(`t${shape}`, () => new Intl.DateTimeFormat(locale, options)).format(at);
}

const AGES = /** @type {[Intl.RelativeTimeFormatUnit, number][]} */ ([
  ["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1],
]);

/** How long ago something was. @param {number} at milliseconds @param {number} [now] */
export function ago(at, now = Date.now()) {
  if (!Number.isFinite(at)) return "–";
  const seconds = (at - now) / 1000;
  const [unit, length] = AGES.find(([, size]) => Math.abs(seconds) >= size) ?? AGES[AGES.length - 1];
  const relative = format("ago", () => new Intl.RelativeTimeFormat(locale, { numeric: "auto" }));
  return relative.format(Math.round(seconds / length), unit);
}
