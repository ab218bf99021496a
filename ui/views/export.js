// The events of a search as a file, with progress; it can be stopped.

import { h, replace } from "../dom.js";
import { bytes, t } from "../i18n.js";
import { ask } from "../api.js";
import { commandBox, curl, dialog, explain, notice } from "../parts.js";

/** @param {import("../api.js").Params} params @param {number} total */
export function exportDialog(params, total) {
  let abort = new AbortController();
  let format = "csv";
  dialog(t("export.title"), (close) => {
    const progress = h("progress", { max: Math.max(1, total), value: 0, hidden: true, "aria-label": t("export.progress") });
    const text = h("p", { class: "muted", role: "status" }, t("export.about", { n: total }));
    const command = h("div");
    const tell = () => replace(command, commandBox(curl("api/logs/export", { ...params, format })));
    const choices = ["csv", "json", "ndjson"].map((name) => h("label", { class: "radio" },
      h("input", { type: "radio", name: "format", value: name, checked: name === format, onchange: () => { format = name; tell(); } }), name.toUpperCase()));
    const start = h("button", { type: "submit", class: "button primary", autofocus: true }, t("export.start"));
    const submit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      start.disabled = true;
      progress.hidden = false;
      abort = new AbortController();
      try {
        const seen = (/** @type {number} */ rows, /** @type {number} */ size) => {
          progress.value = Math.min(rows, progress.max);
          text.textContent = t("export.seen", { n: rows, size: bytes(size) });
        };
        const rows = await download(params, format, abort.signal, seen);
        notice(t("export.done", { n: rows }), { kind: "good" });
        close();
      } catch (error) {
        text.textContent = abort.signal.aborted ? t("export.stopped") : explain(error);
        progress.hidden = true;
        start.disabled = false;
      }
    };
    const cancel = () => {
      if (start.disabled) abort.abort();
      else close();
    };
    tell();
    return [h("form", { class: "form", onsubmit: submit }, h("div", { class: "radios" }, ...choices), text, progress, command,
      h("footer", {}, h("button", { type: "button", class: "button", onclick: cancel }, t("cancel")), start))];
  }, { onclose: () => abort.abort() });
}

/**
 * Fetches the file and hands it to the browser.
 * @param {import("../api.js").Params} params @param {string} format @param {AbortSignal} signal
 * @param {(rows: number, size: number) => void} seen @returns {Promise<number>} how many events it has
 */
async function download(params, format, signal, seen) {
  const response = await ask("api/logs/export", { ...params, format }, { signal });
  const name = /filename="?([^";]+)/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? `logs.${format}`;
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  /** @type {BlobPart[]} */
  const parts = [];
  const counter = new Counter(format);
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    counter.feed(value);
    parts.push(/** @type {BlobPart} */ (value));
    // The browser may keep large parts outside its memory.
    if (parts.length >= 256) parts.splice(0, parts.length, new Blob(parts));
    seen(counter.rows, size);
  }
  const url = URL.createObjectURL(new Blob(parts, { type: response.headers.get("content-type") ?? "" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  seen(counter.rows, size);
  return counter.rows;
}

/** Counts the events of a file while it comes, outside quotes and inside one array. */
export class Counter {
  rows = 0;
  #depth = 0;
  #isQuoted = false;
  #isEscaped = false;
  #isHeader = true;

  /** @param {string} format */
  constructor(format) {
    this.format = format;
    this.base = format === "json" ? 1 : 0;
  }

  /** @param {Uint8Array} part */
  feed(part) {
    const [quote, escape, line, open, close, list, end] = [34, 92, 10, 123, 125, 91, 93];
    for (const byte of part) {
      if (this.#isEscaped) this.#isEscaped = false;
      else if (byte === escape && this.#isQuoted && this.format !== "csv") this.#isEscaped = true;
      else if (byte === quote) this.#isQuoted = !this.#isQuoted;
      else if (this.#isQuoted) continue;
      else if (this.format === "csv") {
        if (byte !== line) continue;
        if (this.#isHeader) this.#isHeader = false;
        else this.rows++;
      } else if (byte === open || byte === list) this.#depth++;
      else if (byte === close || byte === end) {
        this.#depth--;
        if (byte === close && this.#depth === this.base) this.rows++;
      }
    }
  }
}

