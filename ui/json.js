// JSON read without losing anything: numbers keep their spelling, members their order, and any name is only a name.

/**
 * @typedef {{ kind: "object", members: [string, Value][] } | { kind: "array", items: Value[] } | { kind: "string", text: string }
 *   | { kind: "number" | "word", text: string }} Value
 */

/** Deeper values are shown as text. */
const MAX_DEPTH = 100;

/** @param {string} text @returns {Value} */
export function parse(text) {
  let at = 0;
  const blank = () => {
    while (at < text.length && " \t\n\r".includes(text[at])) at++;
  };
  const string = () => {
    const start = at++;
    while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    at++;
    return JSON.parse(text.slice(start, at));
  };
  /** @param {number} depth @returns {Value} */
  const value = (depth) => {
    blank();
    const sign = text[at];
    if (depth > MAX_DEPTH) throw new SyntaxError("too deep");
    if (sign === '"') return { kind: "string", text: string() };
    if (sign === "{" || sign === "[") return sign === "{" ? object(depth) : array(depth);
    const found = /[^\s,\]}]*/y;
    found.lastIndex = at;
    const word = found.exec(text)?.[0] ?? "";
    JSON.parse(word);
    at += word.length;
    return { kind: /[0-9]$/.test(word) ? "number" : "word", text: word };
  };
  /** Reads until the closing sign. @param {string} close @param {() => void} item */
  const list = (close, item) => {
    at++;
    blank();
    while (text[at] !== close) {
      if (at >= text.length) throw new SyntaxError("the text ends too early");
      item();
      blank();
      if (text[at] === ",") at++;
      blank();
    }
    at++;
  };
  /** @param {number} depth @returns {Value} */
  const object = (depth) => {
    /** @type {[string, Value][]} */
    const members = [];
    list("}", () => {
      blank();
      const name = string();
      blank();
      at++;
      members.push([name, value(depth + 1)]);
    });
    return { kind: "object", members };
  };
  /** @param {number} depth @returns {Value} */
  const array = (depth) => {
    /** @type {Value[]} */
    const items = [];
    list("]", () => items.push(value(depth + 1)));
    return { kind: "array", items };
  };
  return value(0);
}

/** Written with two blanks a level. @param {Value} value @param {string} [indent] @returns {string} */
export function pretty(value, indent = "") {
  const inner = `${indent}  `;
  if (value.kind === "object") {
    if (value.members.length === 0) return "{}";
    const members = value.members.map(([name, one]) => `${inner}${JSON.stringify(name)}: ${pretty(one, inner)}`);
    return `{\n${members.join(",\n")}\n${indent}}`;
  }
  if (value.kind === "array") {
    if (value.items.length === 0) return "[]";
    return `[\n${value.items.map((one) => inner + pretty(one, inner)).join(",\n")}\n${indent}]`;
  }
  return value.kind === "string" ? JSON.stringify(value.text) : value.text;
}

/** A member of an object. @param {Value} value @param {string} name @returns {Value | undefined} */
export function member(value, name) {
  return value.kind === "object" ? value.members.find(([known]) => known === name)?.[1] : undefined;
}

/** A scalar as text. @param {Value | undefined} value */
export function textOf(value) {
  return value && "text" in value && value.text !== "null" ? value.text : "";
}
