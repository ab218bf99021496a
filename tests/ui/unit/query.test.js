// The query language as the page writes and completes it.
import assert from "node:assert/strict";
import test from "node:test";
import { placeAt, quote, split, term, withTerm, words } from "../../../ui/query.js";

test("a value is quoted where the language would read it otherwise", () => {
  assert.equal(quote("cell.finish"), "cell.finish");
  assert.equal(quote("سارا"), "سارا");
  assert.equal(quote('say "hi" \\'), '"say \\"hi\\" \\\\"');
  for (const text of ["", "OR", "a b", "a*", "(x)", "-x", "~x", "5..9", "a:b", ">5"]) assert.equal(quote(text), `"${text}"`, text);
});

test("a value is included or excluded once", () => {
  const ali = term("user_id", "ali");
  assert.equal(withTerm("", ali, false), "user_id:ali");
  assert.equal(withTerm("user_id:ali", ali, false), "user_id:ali");
  assert.equal(withTerm("pandas user_id:ali", ali, true), "pandas -user_id:ali");
  assert.equal(withTerm("-user_id:ali", ali, false), "user_id:ali");
  assert.equal(withTerm("a OR b", ali, false), "(a OR b) user_id:ali");
});

test("a query is split outside quotes and parentheses", () => {
  assert.deepEqual(split('a  "b c" d:"e f" (g OR h) i:(j k)'), ["a", '"b c"', 'd:"e f"', "(g OR h)", "i:(j k)"]);
  assert.deepEqual(split('a:"b \\" c" d'), ['a:"b \\" c"', "d"]);
});

test("the place at the cursor is a field or a value", () => {
  const at = (text) => {
    const cursor = text.indexOf("|");
    const place = placeAt(text.replace("|", ""), cursor);
    return place && [place.kind, place.field, place.prefix];
  };
  assert.deepEqual(at("stat|"), ["field", "", "stat"]);
  assert.deepEqual(at("a -sta|"), ["field", "", "sta"]);
  assert.deepEqual(at("status:er|"), ["value", "status", "er"]);
  assert.deepEqual(at("(status:er|"), ["value", "status", "er"]);
  assert.deepEqual(at('user_id:"ali re|'), ["value", "user_id", "ali re"]);
  assert.deepEqual(at("has:err|"), ["field", "", "err"]);
  assert.equal(at("duration_ms:>1|"), undefined);
  assert.equal(at('"some te|'), undefined);
});

test("only words that are searched for are marked", () => {
  assert.deepEqual(words('pandas "import os" status:error -numpy OR ~"x.*" a'), ["pandas", "import os"]);
});
