// Texts, JSON, code, differences and streams, as the page reads them.
import assert from "node:assert/strict";
import test from "node:test";
import { diff } from "../../../ui/diff.js";
import { languageOf, lines, tokens } from "../../../ui/highlight.js";
import { member, parse, pretty, textOf } from "../../../ui/json.js";
import { Parser } from "../../../ui/sse.js";
import { errorText, marks, oneLine, shellQuote, visible } from "../../../ui/text.js";

test("what cannot be seen or turns the text around is shown as a sign", () => {
  assert.equal(visible("a\u001b[31mb\u0000\u202ec\r\nd\te"), "a␛[31mb␀⟨U+202E⟩c\nd\te");
  assert.equal(visible("می\u200cروم"), "می\u200cروم");
  assert.equal(oneLine("a\n\n  b\u2028c"), "a b⟨U+2028⟩c");
  assert.equal(oneLine("x".repeat(2 ** 20)).length, 300);
  assert.equal(oneLine({ a: 1 }), '{"a":1}');
});

test("an error is its type and its last line", () => {
  assert.equal(errorText({ error_type: "KeyError", error_message: "'quantity'" }), "KeyError: 'quantity'");
  assert.equal(errorText({ error_message: "Traceback\n  …\nValueError: x\n" }), "ValueError: x");
  assert.equal(errorText({ error_type: "KeyError" }), "KeyError");
});

test("words are marked in any case, whatever signs they have", () => {
  assert.deepEqual(marks("a.B a.b axb", ["A.b"]).filter((part) => part.isMatch).map((part) => part.text), ["a.B", "a.b"]);
  assert.deepEqual(marks("abc", []), [{ text: "abc", isMatch: false }]);
});

test("a word of a shell ends where it should", () => {
  assert.equal(shellQuote("it's $(x)"), "'it'\\''s $(x)'");
});

test("JSON is read without losing anything", () => {
  const text = '{"n":9007199254740993,"__proto__":{"x":1},"a":[1.50,true,null,"\\u06a9\\""],"n":1e400,"e":{},"l":[]}';
  const value = parse(text);
  assert.equal(textOf(member(value, "n")), "9007199254740993");
  assert.equal(value.members.length, 6);
  assert.equal(textOf(member(member(value, "__proto__"), "x")), "1");
  assert.equal(pretty(value).replace(/\s/g, ""), text.replace("\\u06a9", "ک"));
  for (const broken of ["{", "[1", '{"a"}', "[1,,]x"]) assert.throws(() => parse(broken), broken);
  assert.throws(() => parse("[".repeat(200) + "]".repeat(200)));
});

test("tokens are the code again, whatever the language", () => {
  const codes = ['def f(x):  # no "string"\n    return f"a{x}" + \'\'\'b\nc\'\'\'', "SELECT 'it''s' -- c\nFROM t /* x */", "x <- c(1, 2) # r", "echo \"$HOME\" 'a' # b", '"""never ends', "\\"];
  for (const code of codes) {
    for (const language of ["python", "sql", "r", "shell"]) {
      const found = tokens(code, language);
      assert.equal(found.map((token) => token.text).join(""), code);
      assert.equal(lines(found).length, code.split("\n").length);
    }
  }
  assert.deepEqual(tokens("# a", "python").map((token) => token.kind), ["comment"]);
  assert.deepEqual([languageOf("SELECT 1"), languageOf("x <- 1"), languageOf("%%bash\nls"), languageOf("x = 1"), languageOf("SELECT", "python")], ["sql", "r", "shell", "python", "python"]);
});

test("a million signs of code take no time that grows faster than they", () => {
  assert.equal(tokens("'\\".repeat(500_000), "python").length, 1);
  assert.ok(tokens("'\\".repeat(20_000), "python").length > 0);
});

test("a difference names the lines that differ", () => {
  const kinds = (before, after) => diff(before, after).map((line) => `${line.kind[0]}${line.text}`);
  assert.deepEqual(kinds("a\nb\nc", "a\nx\nc"), ["sa", "rb", "ax", "sc"]);
  assert.deepEqual(kinds("a", "a"), ["sa"]);
  assert.deepEqual(kinds("a\nb", "b\nc"), ["ra", "sb", "ac"]);
});

test("a stream is read however it is cut", () => {
  const text = ": hello\nretry: 3000\n\nid: 7\nevent: log\ndata: {\"a\":1}\n\nid: 8\r\nevent: gap\r\ndata: 1\r\ndata: 2\r\n\r\n";
  for (let size = 1; size <= text.length; size++) {
    const parser = new Parser();
    const messages = [];
    for (let at = 0; at < text.length; at += size) messages.push(...parser.feed(text.slice(at, at + size)));
    assert.deepEqual(messages, [{ id: "7", event: "log", data: '{"a":1}' }, { id: "8", event: "gap", data: "1\n2" }], `pieces of ${size}`);
  }
});
