// Splits code into coloured parts: Python, SQL, R, shell and JSON.

/** @typedef {{ text: string, kind: string }} Token */

/** A longer text stays as it is. */
const MAX_LENGTH = 60_000;

const WORDS = {
  python: "False None True and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return self try while with yield",
  sql: "add all alter and any as asc between by case cast count create cross delete desc distinct drop else end exists false from full group having in index inner insert into is join key left like limit not null offset on or order outer over partition primary references returning right select set table then true union unique update using values view when where window with",
  r: "FALSE Inf NA NULL NaN TRUE break else for function if in library next repeat require return while",
  shell: "case do done echo elif else esac exit export fi for function if in local read return set shift then until unset while",
};

const COMMENT = { python: /#[^\n]*/, sql: /--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)/, r: /#[^\n]*/, shell: /(?<![^\s;])#[^\n]*/ };
const STRING = {
  python: /[rbfuRBFU]{0,2}(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)/,
  sql: /'(?:''|[^'])*'?|"(?:[^"\n])*"?/,
  r: /"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?/,
  shell: /"(?:\\.|[^"\\])*"?|'[^']*'?|\$\{[^}\n]*\}|\$\w+/,
};

/** @typedef {keyof typeof WORDS} Language */

/** The language of some code, by what it is said to be and by how it begins. @param {string} code @param {string} [said] @returns {Language} */
export function languageOf(code, said = "") {
  const name = said.toLowerCase();
  if (/^(sql|postgres|mysql|sqlite)/.test(name)) return "sql";
  if (/^(r|ir)$/.test(name)) return "r";
  if (/^(bash|sh|shell|zsh)/.test(name)) return "shell";
  if (name) return "python";
  const head = code.trimStart().slice(0, 200);
  if (/^%%sql|^(select|insert|update|delete|create|alter|drop|with)\s/i.test(head)) return "sql";
  if (/^(%%bash|%%sh|#!.*sh\b|!\w)/.test(head)) return "shell";
  if (/<-|%>%|library\(/.test(head)) return "r";
  return "python";
}

/** @type {Map<Language, { pattern: RegExp, words: Set<string> }>} */
const READY = new Map();

/** @param {Language} language */
function ready(language) {
  const known = READY.get(language);
  if (known) return known;
  const source = [
    `(?<comment>${COMMENT[language].source})`, `(?<string>${STRING[language].source})`,
    "(?<number>\\b(?:0[xX][0-9a-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)\\b)",
    "(?<name>[\\p{L}_][\\p{L}\\p{N}_]*)", "(?<magic>^[ \\t]*[%!][\\w%]*|@[\\w.]+)",
  ].join("|");
  const made = { pattern: new RegExp(source, "gmu"), words: new Set(WORDS[language].split(" ")) };
  READY.set(language, made);
  return made;
}

/** @param {string} code @param {Language} language @returns {Token[]} */
export function tokens(code, language) {
  if (code.length > MAX_LENGTH) return [{ text: code, kind: "" }];
  const { pattern, words } = ready(language);
  /** @type {Token[]} */
  const out = [];
  let last = 0;
  for (const found of code.matchAll(pattern)) {
    const kind = kindOf(found, words, language, code);
    if (!kind) continue;
    if (found.index > last) out.push({ text: code.slice(last, found.index), kind: "" });
    out.push({ text: found[0], kind });
    last = found.index + found[0].length;
  }
  if (last < code.length) out.push({ text: code.slice(last), kind: "" });
  return out;
}

/** @param {RegExpExecArray} found @param {Set<string>} words @param {Language} language @param {string} code */
function kindOf(found, words, language, code) {
  const { comment, string, number, name } = found.groups ?? {};
  if (comment !== undefined) return "comment";
  if (string !== undefined) return "string";
  if (number !== undefined) return "number";
  if (name === undefined) return "magic";
  if (words.has(language === "sql" ? name.toLowerCase() : name)) return "word";
  return code[found.index + name.length] === "(" ? "call" : "";
}

/** Tokens line by line. @param {Token[]} all @returns {Token[][]} */
export function lines(all) {
  /** @type {Token[][]} */
  const out = [[]];
  for (const { text, kind } of all) {
    const parts = text.split("\n");
    parts.forEach((part, nth) => {
      if (nth > 0) out.push([]);
      if (part) out[out.length - 1].push({ text: part, kind });
    });
  }
  return out;
}
