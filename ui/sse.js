// Reads server-sent events from text that comes in pieces.

/** @typedef {{ id: string, event: string, data: string }} Message */

export class Parser {
  #rest = "";
  #id = "";
  #event = "";
  /** @type {string[]} */
  #data = [];

  /** The messages that this piece completes. @param {string} text @returns {Message[]} */
  feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    /** @type {Message[]} */
    const messages = [];
    for (const line of lines) {
      if (line === "") this.#finish(messages);
      else this.#line(line);
    }
    return messages;
  }

  /** @param {string} line */
  #line(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "id") this.#id = value;
    else if (name === "event") this.#event = value;
  }

  /** @param {Message[]} messages */
  #finish(messages) {
    if (this.#data.length > 0) {
      messages.push({ id: this.#id, event: this.#event || "message", data: this.#data.join("\n") });
    }
    this.#event = "";
    this.#data = [];
  }
}
