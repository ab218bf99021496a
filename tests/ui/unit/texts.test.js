// The texts of the page: both languages have all of them, and every one that the code names.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import en from "../../../ui/lang/en.js";
import fa from "../../../ui/lang/fa.js";

const folder = join(import.meta.dirname, "../../../ui");
const modules = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".js"));

test("both languages have the same texts with the same values", () => {
  assert.deepEqual(Object.keys(fa).sort(), Object.keys(en).sort());
  const values = (text) => [...new Set((typeof text === "string" ? text : text.other).match(/\{\w+\}/g) ?? [])].sort();
  for (const key of Object.keys(fa)) assert.deepEqual(values(fa[key]), values(en[key]), key);
});

test("every text that is used is there, and every text that is there is used", () => {
  const code = modules.filter((name) => !name.startsWith("lang")).map((name) => readFileSync(join(folder, name), "utf8")).join("\n");
  for (const key of code.matchAll(/\bt\("([\w.]+)"/g)) assert.ok(key[1] in en, key[1]);
  const made = /^((status|state|severity|role|range|theme|zone|menu|operate|key|query|nav|live|reload)\.|login\.by_)/;
  for (const key of Object.keys(en)) assert.ok(made.test(key) || code.includes(`"${key}"`), `${key} is not used`);
});

test("every module begins with what it is for", () => {
  for (const name of modules) assert.match(readFileSync(join(folder, name), "utf8").split("\n")[0], /^\/\/ \S.{10,}[.]$/, name);
});
