// The query language as the page needs it: values included and excluded, and what can be completed at the cursor.

/** A value as it is written in a query. @param {string} text */
export function quote(text) {
  return /^[\p{L}\p{N}_][\p{L}\p{N}_.@/-]*$/u.test(text) && !/^(AND|OR|NOT|TO)$/.test(text) && !text.includes("..")
    ? text
    : `"${text.replace(/[\\"]/g, "\\$&")}"`;
}

/** @param {string} field @param {string} value */
export function term(field, value) {
  return `${field}:${quote(value)}`;
}

/** Adds a condition, or turns its opposite around. @param {string} query @param {string} condition @param {boolean} exclude */
export function withTerm(query, condition, exclude) {
  const wanted = exclude ? `-${condition}` : condition;
  const opposite = exclude ? condition : `-${condition}`;
  const parts = split(query).filter((part) => part !== opposite && part !== wanted);
  if (parts.includes("OR")) return `(${parts.join(" ")}) ${wanted}`;
  return [...parts, wanted].join(" ");
}

/** The conditions of a query, split where blanks stand outside quotes and parentheses. @param {string} query */
export function split(query) {
  const parts = [];
  let [part, depth, quoted] = ["", 0, false];
  for (let at = 0; at < query.length; at++) {
    const sign = query[at];
    if (quoted && sign === "\\") {
      part += sign + (query[++at] ?? "");
      continue;
    }
    if (sign === '"') quoted = !quoted;
    else if (!quoted && sign === "(") depth++;
    else if (!quoted && sign === ")") depth--;
    if (/\s/.test(sign) && !quoted && depth <= 0) {
      if (part) parts.push(part);
      part = "";
    } else part += sign;
  }
  if (part) parts.push(part);
  return parts;
}

/**
 * What stands at the cursor: a field that is being named, or the value of one.
 * @typedef {{ kind: "field" | "value", field: string, prefix: string, start: number, end: number }} Place
 * @param {string} query @param {number} cursor @returns {Place | undefined}
 */
export function placeAt(query, cursor) {
  const before = query.slice(0, cursor);
  if (((before.match(/(?<!\\)"/g) ?? []).length & 1) === 1 && !/:"[^"]*$/.test(before)) return undefined;
  const start = before.search(/(?:[^\s()"]+:"[^"]*|[^\s()]*)$/);
  const word = before.slice(start);
  const sign = /^(?:-|NOT\s)/.exec(word)?.[0] ?? "";
  const body = word.slice(sign.length);
  const end = cursor + (/^[^\s()]*/.exec(query.slice(cursor))?.[0].length ?? 0);
  const colon = body.indexOf(":");
  if (colon < 0) return { kind: "field", field: "", prefix: body, start: start + sign.length, end };
  const field = body.slice(0, colon);
  if (field === "has") return { kind: "field", field: "", prefix: body.slice(4), start: start + sign.length + 4, end };
  const prefix = body.slice(colon + 1).replace(/^"/, "");
  if (/^[<>=~[]/.test(prefix)) return undefined;
  return { kind: "value", field, prefix, start: start + sign.length + colon + 1, end };
}

/** The words of a query that stand in texts, for marking them. @param {string} query */
export function words(query) {
  const found = split(query).filter((part) => !/^[-~]|^(OR|AND|NOT)$/.test(part) && !/^[^\s":]+:/.test(part));
  const plain = found.map((part) => part.replace(/^"|"$/g, "").replace(/^\(|\)$/g, "").replace(/\*/g, ""));
  return plain.filter((part) => part.length > 1);
}
