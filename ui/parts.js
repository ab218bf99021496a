// Small parts that several views share: notices, menus, copying, the command beside a view, empty and error states.

import { h, icon, iconButton, replace } from "./dom.js";
import { t, word, ago, time, millis } from "./i18n.js";
import { shellQuote } from "./text.js";
import { address, ApiError, isLacking } from "./api.js";

/** How long a notice is seen, in milliseconds. */
const NOTICE = 6000;
/** Notices that are seen at once. */
const MAX_NOTICES = 3;

const tray = h("div", { class: "notices", role: "status", "aria-live": "polite" });
const spoken = h("div", { class: "hidden-text", "aria-live": "polite" });

export function mountNotices() {
  document.body.append(tray, spoken);
}

/** Says something to those who listen instead of looking. @param {string} text */
export function announce(text) {
  spoken.textContent = text;
}

/** @param {string} text @param {{ kind?: "info" | "error" | "good", action?: string, onaction?: () => void }} [more] */
export function notice(text, { kind = "info", action, onaction } = {}) {
  const close = () => note.remove();
  const act = () => {
    close();
    onaction?.();
  };
  const note = h("div", { class: `notice ${kind}` }, icon(kind === "error" ? "alert" : kind === "good" ? "check" : "clock"), h("span", {}, text),
    action && h("button", { type: "button", class: "text-button", onclick: act }, action),
    iconButton("close", t("close"), close));
  tray.append(note);
  while (tray.children.length > MAX_NOTICES) tray.firstElementChild?.remove();
  setTimeout(close, NOTICE);
}

/** What an error means for whoever looks at the page. @param {unknown} error */
export function explain(error) {
  if (error instanceof ApiError) return error.status === 0 ? t("error.offline") : error.message;
  return String(/** @type {Error} */ (error)?.message ?? error);
}

/** @param {string} text @param {string} [done] */
export async function copy(text, done = t("copied")) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without the clipboard's permission, by the selection.
    const area = h("textarea", { class: "hidden-text" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  notice(done, { kind: "good" });
}

/** The status of an event: a dot and a word. @param {unknown} status */
export function statusBadge(status) {
  const name = typeof status === "string" && status ? status : "none";
  return h("span", { class: `status s-${statusClass(name)}` }, h("i", { class: "dot" }), word("status", name));
}

const KNOWN = ["success", "error", "warning", "in_progress", "aborted", "lost"];

/** @param {string} status */
export function statusClass(status) {
  return KNOWN.includes(status) ? status : "none";
}

/** The statuses in the order in which charts stack them. */
export const STATUSES = ["success", "in_progress", "warning", "none", "aborted", "lost", "error"];

/** @param {unknown} value */
export function timeTag(value) {
  const at = millis(value);
  return h("time", { datetime: Number.isFinite(at) ? new Date(at).toISOString() : null, title: time(at, "exact") }, ago(at));
}

/**
 * A menu under a button.
 * @param {HTMLElement} button @param {() => (Node | null | false)[]} content
 */
export function menu(button, content) {
  const id = `menu-${Math.random().toString(36).slice(2)}`;
  const panel = h("div", { class: "menu", id, popover: "auto" });
  button.setAttribute("popovertarget", id);
  button.setAttribute("aria-haspopup", "true");
  button.after(panel);
  panel.addEventListener("beforetoggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "open") return;
    replace(panel, ...content());
    const box = button.getBoundingClientRect();
    panel.style.top = `${box.bottom + 4}px`;
    const isRight = box.left + box.width / 2 > innerWidth / 2;
    panel.style.left = isRight ? "auto" : `${Math.max(8, box.left)}px`;
    panel.style.right = isRight ? `${Math.max(8, innerWidth - box.right)}px` : "auto";
  });
  panel.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState === "open") {
      /** @type {HTMLElement | null} */ (panel.querySelector("button, input, select"))?.focus();
    }
  });
  panel.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!step || event.target instanceof HTMLInputElement) return;
    event.preventDefault();
    const all = /** @type {HTMLElement[]} */ ([...panel.querySelectorAll("button")]);
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    all[(at + step + all.length) % all.length]?.focus();
  });
  return { panel, close: () => panel.hidePopover() };
}

/**
 * Asks before something that cannot be undone, or shows something in front of the page.
 * @param {string} title @param {(close: () => void) => (Node | string | null | false)[]} content @param {{ class?: string, onclose?: () => void }} [more]
 */
export function dialog(title, content, more = {}) {
  const close = () => box.close();
  const box = h("dialog", { class: `dialog ${more.class ?? ""}`, "aria-label": title });
  box.append(h("header", {}, h("h2", {}, title), iconButton("close", t("close"), close)));
  for (const part of content(close)) if (part) box.append(part);
  box.addEventListener("close", () => {
    box.remove();
    more.onclose?.();
  });
  box.addEventListener("click", (event) => {
    if (event.target === box) close();
  });
  document.body.append(box);
  box.showModal();
  return close;
}

/** @param {string} question @param {string} action @param {() => void} onaction */
export function confirm(question, action, onaction) {
  dialog(action, (close) => [
    h("p", {}, question),
    h("footer", {},
      h("button", { type: "button", class: "button", onclick: close }, t("cancel")),
      h("button", { type: "button", class: "button danger", onclick: () => { close(); onaction(); } }, action)),
  ]);
}

/** The command that gets what the page shows. @param {string} path @param {import("./api.js").Params} [params] */
export function curl(path, params = {}) {
  const url = new URL(address(path, params), document.baseURI).href;
  return `curl -H "Authorization: Bearer $WEIR_TOKEN" ${shellQuote(url)}`;
}

/** A button that shows that command. @param {() => string} command */
export function curlButton(command) {
  const show = () => dialog(t("curl.title"), () => [
    h("p", { class: "muted" }, t("curl.about")),
    commandBox(command()),
  ]);
  return iconButton("terminal", t("curl.title"), show);
}

/** A command with a button that copies it. @param {string} text */
export function commandBox(text) {
  return h("div", { class: "command", dir: "ltr" }, h("pre", { tabindex: 0 }, text), iconButton("copy", t("copy"), () => copy(text)));
}

/** @param {string} title @param {...(Node | string | null | false)} more */
export function emptyState(title, ...more) {
  return h("div", { class: "empty" }, h("h2", {}, title), ...more);
}

/** @param {unknown} error @param {() => void} again */
export function errorState(error, again) {
  return h("div", { class: "empty error-state", role: "alert" }, icon("alert"), h("h2", {}, t("error.title")), h("p", {}, explain(error)),
    !isLacking(error) && h("button", { type: "button", class: "button", onclick: again }, t("retry")));
}

/** Grey bars where something will be. @param {number} count */
export function skeleton(count) {
  return h("div", { class: "skeleton", "aria-hidden": "true" }, ...Array.from({ length: count }, () => h("i")));
}
