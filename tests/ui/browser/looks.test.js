// How the page looks and reads: no view breaks a rule of accessibility, and each leaves a picture in target/ui-shots.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { Agent, eventually, launch, open, tools } from "./support.js";
import { history } from "./history.js";

const code = readFileSync(tools.resolve("axe-core/axe.min.js"), "utf8");
const shots = join(import.meta.dirname, "../../../target/ui-shots");
mkdirSync(shots, { recursive: true });

const LOOKS = {
  light: {}, dark: { colorScheme: "dark" }, persian: { locale: "fa-IR", timezoneId: "Asia/Tehran" }, phone: { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2 },
  "persian-phone": { locale: "fa-IR", timezoneId: "Asia/Tehran", colorScheme: "dark", viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 },
};
/** Each view, and what must be there before it is looked at. */
const VIEWS = {
  events: ["/?range=7d&live=0", ".row:has(code) >> nth=3"], event: ["/?range=7d&q=status:error+has:code&live=0", ".row:has(code) >> nth=3", async (page) => {
    await page.locator(".row:has(code)").nth(2).click();
    await page.waitForSelector(".event .neighbour");
  }],
  overview: ["/?view=overview", ".card"], users: ["/?view=people&range=7d", ".table"], user: ["/?view=people&user=ali&range=7d", ".timeline"], pipeline: ["/?view=operate", ".graph"],
  config: ["/?view=operate&tab=config", ".tree"], letters: ["/?view=operate&tab=dead_letters", ".table"], mistake: ["/?q=status:(&live=0", ".search-error:not([hidden])"], nothing: ["/?q=zzqq&live=0", ".empty"],
  help: ["/?range=7d&live=0", ".row:has(code) >> nth=3", (page) => page.keyboard.press("?")], export: ["/?range=7d&live=0", ".row:has(code) >> nth=3", (page) => page.keyboard.press("e")],
  menu: ["/?range=7d&live=0", ".row:has(code) >> nth=3", (page) => page.click(".user-button")], times: ["/?range=7d&live=0", ".row:has(code) >> nth=3", (page) => page.click(".range-place button")],
};

let full, empty, browser;
before(async () => {
  const conflict = "  copy: { type: http, inputs: [short], where: 'user_id:nima', uri: 'http://127.0.0.1:9/' }";
  [full, empty, browser] = await Promise.all([Agent.start(conflict), Agent.start(), launch()]);
  await full.send(history());
  await makeDeadLetters();
});
after(async () => {
  await browser?.close();
  await Promise.all([full?.stop(), empty?.stop()]);
});

/** The same id with another content is a dead letter of the store. */
async function makeDeadLetters() {
  for (let nth = 0; nth < 5; nth++) {
    const id = `0190163d-8694-739b-aea5-966c26f8ad9${nth}`;
    await full.send([{ id, event_type: "order.paid", user_id: "ali", description: "first" }]);
    await full.send([{ id, event_type: "order.paid", user_id: "ali", description: "another" }]);
  }
  await eventually("dead letters", async () => (await full.get("/api/dlq")).total === 5);
}

/** What breaks a rule, in sentences. */
async function complaints(page, name) {
  await page.evaluate(code);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const told = violations.map((one) => `${one.id}: ${one.help}\n${one.nodes.slice(0, 3).map((node) => `  ${node.target} ${node.any[0]?.message ?? node.all[0]?.message ?? ""}`).join("\n")}`);
  const { wide, high } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth - innerWidth, high: document.documentElement.scrollHeight - innerHeight }));
  const lost = await page.evaluate(() => [...document.querySelectorAll("td a, td button, .card-value, h1")].filter((one) => one.textContent.trim() && one.getClientRects().length > 0 && !one.closest(".hidden-text") && one.getBoundingClientRect().width < 24 && one.textContent.trim().length > 3 && !one.matches(".hidden-text")).map((one) => one.textContent.slice(0, 40)));
  if (lost.length > 0) told.push(`too narrow to be read: ${lost.slice(0, 5).join(", ")}`);
  if (wide > 0 || high > 0) told.push(`larger than the screen by ${wide} × ${high}`);
  told.push(...page.faults.splice(0).filter((fault) => !fault.startsWith("policy:")));
  return told.map((one) => `${name}: ${one}`);
}

const check = async (page, name) => assert.deepEqual(await complaints(page, name), []);

for (const [look, options] of Object.entries(LOOKS)) {
  test(`every view is sound: ${look}`, async () => {
    const page = await open(browser, full, { path: "/?live=0", bypassCSP: true, ...options });
    const told = [];
    for (const [name, [path, ready, act]] of Object.entries(VIEWS)) {
      await page.goto(full.url + path);
      await page.waitForSelector(ready);
      await act?.(page);
      await page.waitForTimeout(250);
      await page.screenshot({ path: join(shots, `${name}-${look}.png`) });
      told.push(...(await complaints(page, `${name} ${look}`)));
    }
    assert.deepEqual(told, []);
  });
}

test("Persian reads from right to left, with its digits and calendar, and code does not", async () => {
  const page = await open(browser, full, { path: "/?range=7d&live=0", ...LOOKS.persian });
  await page.waitForSelector(".row:has(code)");
  const seen = await page.evaluate(() => {
    const row = [...document.querySelectorAll(".row")].find((one) => one.querySelector("code"));
    const [time, what] = [row.querySelector(".c-time"), row.querySelector(".c-what")];
    return {
      dir: document.documentElement.dir, lang: document.documentElement.lang, time: time.textContent, count: document.querySelector(".count").textContent,
      isTimeRight: time.getBoundingClientRect().left > what.getBoundingClientRect().left, code: getComputedStyle(row.querySelector("code")).direction,
    };
  });
  assert.deepEqual([seen.dir, seen.lang, seen.isTimeRight, seen.code], ["rtl", "fa", true, "ltr"]);
  assert.match(seen.time, /^[۰-۹]+ (فروردین|اردیبهشت|خرداد|تیر|مرداد|شهریور|مهر|آبان|آذر|دی|بهمن|اسفند)/);
  assert.match(seen.count, /^[۰-۹٬،]+ رویداد$/);
  await page.click(".user-button");
  await page.click("button:text-is('English')");
  await page.waitForSelector("text=What happened");
  assert.equal(await page.evaluate(() => document.documentElement.dir), "ltr");
});

test("what is empty, and who is not there yet", async () => {
  for (const [look, options] of Object.entries(LOOKS)) {
    const page = await open(browser, empty, { path: "/", bypassCSP: true, ...options });
    await page.waitForSelector(".command");
    await page.screenshot({ path: join(shots, `first-${look}.png`) });
    await check(page, `first ${look}`);
    await page.goto(`${empty.url}/?view=overview`);
    await page.waitForSelector(".command");
    await check(page, `empty overview ${look}`);
    await page.context().clearCookies();
    await page.goto(empty.url);
    await page.waitForSelector(".login-card");
    await page.screenshot({ path: join(shots, `login-${look}.png`) });
    await check(page, `login ${look}`);
  }
});

test("the page is usable at twice its size", async () => {
  const page = await open(browser, full, { path: "/?range=7d&live=0", viewport: { width: 640, height: 450 }, deviceScaleFactor: 2, bypassCSP: true });
  await page.waitForSelector(".row:has(code) >> nth=1");
  await page.screenshot({ path: join(shots, "events-zoom.png") });
  await check(page, "events at 200 %");
});
