// The state of the page and its address.
import assert from "node:assert/strict";
import test from "node:test";
import { format, parse, span } from "../../../ui/state.js";

test("an address gives the state that it was made of", () => {
  const states = [
    {}, { view: "overview" }, { q: 'code:"import os" -status:error', range: "7d" }, { range: "custom", from: "2026-01-02T03:04:05.000Z", to: "" },
    { event: "0190163d-8694", live: false, reads: true }, { view: "people", user: "سارا", session: "s/1 &?" }, { view: "operate", tab: "dead_letters" },
  ];
  for (const state of states) {
    const whole = { ...parse(""), ...state };
    assert.deepEqual(parse(format(whole)), whole);
  }
  assert.equal(format({}), "?");
});

test("what an address says wrongly is left out", () => {
  const state = parse("?view=admin&range=constructor&from=yesterday&live=perhaps&unknown=1");
  assert.deepEqual(state, parse(""));
});

test("a preset goes back from now, and all time has no ends", () => {
  assert.deepEqual(span(parse("?range=1h"), 7_200_000), { from: 3_600_000, to: undefined });
  assert.deepEqual(span(parse("?range=all"), 7_200_000), { from: undefined, to: undefined });
  assert.deepEqual(span(parse("?from=1970-01-01T00:00:01Z"), 0), { from: 1000, to: undefined });
});
