// What the keys do, and how a search is written.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { dialog } from "../parts.js";

/** @typedef {keyof typeof import("../lang/en.js").default} Key */

const KEYS = /** @type {const} */ ([["/", "key.search"], ["j k", "key.move"], ["Enter", "key.open"], ["Esc", "key.close"], ["l", "key.live"], ["p", "key.pause"], ["e", "key.export"], ["g", "key.views"], ["?", "key.help"]]);
const QUERIES = /** @type {const} */ ([
  ["pandas", "query.word"], ['"import os"', "query.words"], ["status:error", "query.field"], ["user_id:(ali OR sara)", "query.either"], ["-event_type:login", "query.not"],
  ["duration_ms:>=1000", "query.range"], ["has:error_message", "query.has"], ["endpoint:/api/*", "query.star"], ["metadata.tenant:north", "query.inside"], ['code:~"read_(csv|sql)"', "query.pattern"],
]);

export function help() {
  dialog(t("help.title"), () => [h("div", { class: "help" },
    h("section", {}, h("h3", {}, t("help.keys")), h("dl", { class: "keys" }, ...KEYS.map(([key, text]) => h("div", {}, h("dt", {}, ...key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, t(text)))))),
    h("section", {}, h("h3", {}, t("help.search")), h("dl", { class: "keys" }, ...QUERIES.map(([query, text]) => h("div", {}, h("dt", {}, h("code", { dir: "ltr" }, query)), h("dd", {}, t(text)))))))], { class: "wide" });
}
