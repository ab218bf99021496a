// Code with line numbers and colours, differences, and values as a tree; long ones a part at a time.

import { h, iconButton, replace } from "./dom.js";
import { t } from "./i18n.js";
import { languageOf, lines, tokens } from "./highlight.js";
import { visible } from "./text.js";
import { copy } from "./parts.js";
import { diff } from "./diff.js";

/** Characters and lines that are shown at first. */
const [FIRST_CHARACTERS, FIRST_LINES] = [20_000, 400];
/** Members of an object that are shown at first, and with each further step. */
const MEMBERS = 100;

/** The beginning of a long text, and whether there is more. @param {string} text */
function beginning(text) {
  let end = Math.min(text.length, FIRST_CHARACTERS);
  let at = -1;
  for (let line = 0; line < FIRST_LINES; line++) {
    at = text.indexOf("\n", at + 1);
    if (at < 0 || at > end) break;
    if (line === FIRST_LINES - 1) end = at;
  }
  return { shown: text.slice(0, end), isMore: end < text.length };
}

/** @param {import("./highlight.js").Token[]} line */
function painted(line) {
  return line.map(({ text, kind }) => (kind ? h("span", { class: `t-${kind}` }, text) : text));
}

/** @param {string} text @param {{ language?: string, plain?: boolean }} [more] */
export function codeBlock(text, { language, plain = false } = {}) {
  const body = h("pre", { class: "code-lines", tabindex: 0, "aria-label": t("event.code") });
  const draw = (/** @type {string} */ part) => {
    const clean = visible(part);
    const parts = plain ? clean.split("\n").map((one) => [{ text: one, kind: "" }]) : lines(tokens(clean, languageOf(clean, language)));
    replace(body, ...parts.map((line) => h("span", { class: "code-line" }, ...painted(line), "\n")));
  };
  const { shown, isMore } = beginning(text);
  draw(shown);
  const all = isMore && h("button", { type: "button", class: "text-button", onclick: (/** @type {Event} */ event) => {
    draw(text);
    /** @type {HTMLElement} */ (event.currentTarget).remove();
  } }, t("show.all", { n: text.length }));
  return h("div", { class: "code", dir: "ltr" }, body, iconButton("copy", t("copy"), () => copy(text)), all);
}

/** @param {string} before @param {string} after */
export function diffBlock(before, after) {
  const signs = { same: " ", added: "+", removed: "−" };
  const all = diff(visible(before), visible(after)).slice(0, 2 * FIRST_LINES);
  const body = all.map(({ kind, text }) => h("span", { class: `diff-line d-${kind}` }, h("i", {}, signs[kind]), text, "\n"));
  return h("div", { class: "code diff", dir: "ltr" }, h("pre", { tabindex: 0 }, ...body));
}

/** A value as a tree of which only what is open exists. @param {import("./json.js").Value} value */
export function tree(value) {
  if (value.kind === "object" || value.kind === "array") {
    const entries = value.kind === "object" ? value.members : value.items.map((one, nth) => /** @type {[string, any]} */ ([String(nth), one]));
    return h("div", { class: "tree", dir: "ltr" }, ...branches(entries));
  }
  return leaf(value);
}

/** @param {[string, import("./json.js").Value][]} entries @param {number} [from] @returns {Node[]} */
function branches(entries, from = 0) {
  const part = entries.slice(from, from + MEMBERS).map(([name, value]) => branch(name, value));
  if (entries.length > from + MEMBERS) {
    const more = h("button", { type: "button", class: "text-button", onclick: () => more.replaceWith(...branches(entries, from + MEMBERS)) },
      t("show.more", { n: entries.length - from - MEMBERS }));
    part.push(more);
  }
  return part;
}

/** @param {string} name @param {import("./json.js").Value} value @returns {HTMLElement} */
function branch(name, value) {
  const key = h("bdi", { class: "tree-key" }, visible(name).slice(0, 300));
  if (value.kind !== "object" && value.kind !== "array") return h("div", { class: "tree-leaf" }, key, leaf(value));
  const size = value.kind === "object" ? value.members.length : value.items.length;
  const inside = h("div", { class: "tree-inside" });
  const details = h("details", {}, h("summary", {}, key, h("span", { class: "muted" }, value.kind === "object" ? `{${size}}` : `[${size}]`)), inside);
  details.addEventListener("toggle", () => {
    if (details.open && !inside.hasChildNodes()) inside.append(tree(value));
  });
  if (size > 0 && size <= 6) details.open = true;
  return details;
}

/** @param {import("./json.js").Value} value */
function leaf(value) {
  if (value.kind !== "string") return h("span", { class: "tree-value t-number" }, "text" in value ? value.text : "");
  const { shown, isMore } = beginning(visible(value.text));
  return h("bdi", { class: "tree-value" }, shown, isMore && "…");
}
