// Texts that people wrote, made safe to look at: what cannot be seen, or would turn the text around it, is shown as a sign.

/** Controls but tab and line end, and everything that changes direction or hides. Joiners stay: Persian needs them. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** @param {string} sign */
function picture(sign) {
  const code = sign.codePointAt(0) ?? 0;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
}

/** A text over several lines. @param {string} text */
export function visible(text) {
  return text.replace(/\r\n/g, "\n").replace(UNSEEN, picture);
}

/** A text on one line, cut where nobody reads on. @param {unknown} value @param {number} [most] */
export function oneLine(value, most = 300) {
  const text = typeof value === "string" ? value : value === null || value === undefined ? "" : JSON.stringify(value);
  const part = text.length > most * 2 ? text.slice(0, most * 2) : text;
  return visible(part).replace(/\s+/g, " ").trim().slice(0, most);
}

/** The last line of an error says what it was. @param {string} text */
export function lastLine(text) {
  const lines = text.slice(-2000).trimEnd().split("\n");
  return lines[lines.length - 1].trim();
}

/** What went wrong, on one line. @param {Record<string, any>} event */
export function errorText(event) {
  const type = String(event.error_type ?? "");
  const line = event.error_message ? lastLine(String(event.error_message)) : "";
  return type && !line.includes(type) ? (line ? `${type}: ${line}` : type) : line;
}

/**
 * Splits a text at the words that were searched for.
 * @param {string} text @param {string[]} words @returns {{ text: string, isMatch: boolean }[]}
 */
export function marks(text, words) {
  if (words.length === 0) return [{ text, isMatch: false }];
  const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "giu");
  return text.split(pattern).map((part, nth) => ({ text: part, isMatch: nth % 2 === 1 })).filter((part) => part.text);
}

/** What a shell takes as one word. @param {string} text */
export function shellQuote(text) {
  return `'${text.replace(/'/g, "'\\''")}'`;
}
