// Events: search, time, one event, keys, export.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test, { after, before } from "node:test";
import { Agent, cell, eventually, launch, open, texts } from "./support.js";

let agent, browser;
const minutes = (ago) => new Date(Date.now() - ago * 60_000).toISOString();

before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
  const events = [];
  for (let nth = 0; nth < 600; nth++) {
    const isError = nth % 10 === 3;
    events.push(cell({
      user_id: nth % 3 ? "ali" : "sara", session_id: `s-${nth % 7}`, cell_number: 1 + (nth % 20), timestamp: minutes(nth), code: `step(${nth})\nprint("run ${nth}")`,
      status: isError ? "error" : "success", ...(isError ? { error_type: "KeyError", error_message: `'column ${nth}'`, error_trace: "Traceback (most recent call last):\nKeyError" } : {}),
    }));
  }
  await agent.send(events);
});
after(async () => {
  await browser?.close();
  await agent?.stop();
});

const rows = (page) => page.locator(".row:not([hidden]):has(.c-time:not(:empty))");
const counted = (page, number) => eventually(`${number} events`, async () => (await page.innerText(".count")).includes(`${number} event`));

test("a search finds what the API finds, and its address is the whole state", async () => {
  const page = await open(browser, agent, { path: "/?live=0" });
  await page.fill(".search-input", "status:error user_id:sara");
  await page.keyboard.press("Enter");
  const { total } = await agent.get(`/api/logs?q=${encodeURIComponent("status:error user_id:sara")}&limit=1`);
  await counted(page, total);
  const other = await open(browser, agent, { path: new URL(page.url()).search });
  await counted(other, total);
  assert.deepEqual(new Set((await texts(other, ".row:not([hidden]) .c-status")).filter(Boolean)), new Set(["error"]));
  assert.match(await other.locator(".row .c-what").first().innerText(), /KeyError: 'column/);
  assert.deepEqual([...page.faults, ...other.faults], []);
});

test("a mistake in a search is shown under its column", async () => {
  const page = await open(browser, agent, { path: `/?q=${encodeURIComponent("user_id:ali status: (")}` });
  await page.waitForSelector(".search-error:not([hidden])");
  const [query, caret] = (await page.innerText(".search-error pre")).split("\n");
  assert.equal(query.trim(), "user_id:ali status: (");
  assert.equal(query[caret.indexOf("^")], " ");
  await page.fill(".search-input", "user_id:ali");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".search-error", { state: "hidden" });
});

test("fields and values are completed, and searches remembered", async () => {
  const page = await open(browser, agent, { path: "/?live=0" });
  await page.click(".search-input");
  await page.keyboard.type("stat");
  await page.waitForSelector('.suggestion:has-text("status:")');
  await page.keyboard.press("Tab");
  await page.waitForSelector('.suggestion:has-text("error")');
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.match(await page.inputValue(".search-input"), /^status:(error|success) $/);
  await page.waitForSelector(".suggestions", { state: "hidden" });
  await page.keyboard.press("Enter");
  await eventually("it is searched", () => page.url().includes("q=status"));
  await page.fill(".search-input", "");
  await page.waitForSelector('.suggestion:has-text("searched before")');
});

test("a click on a value includes or excludes it", async () => {
  const page = await open(browser, agent, { path: "/?live=0" });
  const user = page.locator('.row:not([hidden]) .c-user[data-value="sara"]').first();
  await user.hover();
  await user.locator("[data-act=out]").click();
  await eventually("the address", () => new URL(page.url()).searchParams.get("q") === "-user_id:sara");
  await eventually("the rows", async () => !(await texts(page, ".row:not([hidden]) .c-user .cell-text")).includes("sara"));
  const status = page.locator('.row:not([hidden]) .c-status[data-value="error"]').first();
  await status.hover();
  await status.locator("[data-act=in]").click();
  await eventually("the address", () => new URL(page.url()).searchParams.get("q") === "-user_id:sara status:error");
});

test("drawing over the histogram chooses a time", async () => {
  const page = await open(browser, agent, { path: "/?range=24h&live=0" });
  await page.waitForSelector(".histogram rect.b-success");
  const box = await page.locator(".histogram-bars").boundingBox();
  await page.mouse.move(box.x + box.width * 0.7, box.y + 30);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 30, { steps: 4 });
  await page.mouse.up();
  const { searchParams } = await eventually("the address", () => page.url().includes("from=") && new URL(page.url()));
  const [from, to] = [searchParams.get("from"), searchParams.get("to")];
  assert.ok(Date.parse(to) - Date.parse(from) > 3_600_000, `${from} ${to}`);
  const query = "-event_type:(activity_read OR admin_view_activity_logs OR activity_export)";
  const { total } = await agent.get(`/api/logs?${new URLSearchParams({ start_date: from, end_date: to, q: query, limit: 1 })}`);
  await counted(page, total);
  await page.goBack();
  await eventually("back", async () => (await page.innerText(".range-label")) === "Last 24 hours");
});

test("one event shows its code, its error, its session and the run before", async () => {
  const page = await open(browser, agent, { path: "/?q=status:error&live=0" });
  await page.locator(".row:has(code)").first().click();
  await page.waitForSelector(".event .neighbour.this");
  const shown = await page.innerText(".event");
  for (const part of ["KeyError: 'column", "Traceback", "step(", "The session around it", "kernel", "python3", "host"]) assert.ok(shown.includes(part), part);
  await page.waitForSelector(".d-added");
  assert.ok((await texts(page, ".d-removed"))[0].includes("step("));
  const id = new URL(page.url()).searchParams.get("event");
  await page.keyboard.press("j");
  await eventually("the next", () => new URL(page.url()).searchParams.get("event") !== id);
  await page.keyboard.press("k");
  await eventually("and back", () => new URL(page.url()).searchParams.get("event") === id);
  await page.click("summary:has-text('Raw event')");
  await page.waitForSelector(".raw .code-line");
  const raw = JSON.parse(await page.innerText(".raw .code-lines"));
  assert.deepEqual(raw, await agent.get(`/api/logs/${id}`));
  const link = await open(browser, agent, { path: `/?event=${id}&range=all` });
  await link.waitForSelector(".event .code-line");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".event", { state: "hidden" });
  assert.deepEqual([...page.faults, ...link.faults], []);
});

test("everything can be done with keys", async () => {
  const page = await open(browser, agent, { path: "/?live=0" });
  await rows(page).first().waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("status:error ");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await counted(page, 60);
  assert.deepEqual(new Set((await texts(page, ".row:not([hidden]) .c-status")).filter(Boolean)), new Set(["error"]));
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".event .code-line");
  await page.keyboard.press("Escape");
  await page.keyboard.press("l");
  await page.waitForSelector(".live-button.is-live");
  await page.keyboard.press("p");
  await page.waitForSelector(".live-button.is-paused");
  await page.keyboard.press("e");
  await page.waitForSelector("dialog progress", { state: "attached" });
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  await page.keyboard.press("?");
  await page.waitForSelector("dialog kbd");
  await page.keyboard.press("Escape");
  await page.keyboard.press("g");
  await page.waitForSelector(".card");
  assert.deepEqual(page.faults, []);
});

test("keys typed ahead of a slow network mean the rows that come", async () => {
  const page = await open(browser, agent, { path: "/?live=0" });
  await rows(page).first().waitFor();
  let answer = () => {};
  const held = new Promise((done) => (answer = done));
  await page.context().route(/api.logs\?/, async (route) => {
    await held;
    await route.continue();
  });
  await page.keyboard.press("/");
  await page.keyboard.type("status:error ");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".skeleton");
  await page.evaluate(() => /** @type {HTMLElement} */ (document.activeElement).blur());
  for (const key of ["j", "j", "Enter"]) await page.keyboard.press(key);
  answer();
  await page.waitForSelector(".event .code-line");
  assert.equal(await page.getAttribute(".row.selected", "data-index"), "1");
  assert.deepEqual(page.faults, []);
});

test("an export is what the API exports", async () => {
  const page = await open(browser, agent, { path: "/?q=status:error&live=0" });
  await rows(page).first().waitFor();
  for (const format of ["csv", "json", "ndjson"]) {
    await page.keyboard.press("e");
    await page.check(`input[value=${format}]`);
    // The notice goes by itself, on a slow machine before the file has been read.
    const said = page.waitForSelector("text=60 events exported");
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("dialog button[type=submit]")]);
    const text = readFileSync(await download.path(), "utf8");
    assert.match(download.suggestedFilename(), new RegExp(`^logs-.*\\.${format}$`));
    await said;
    const answer = await fetch(`${agent.url}/api/logs/export?q=status:error&format=${format}`, { headers: { authorization: `Basic ${btoa("root:root-password")}` } });
    assert.equal(text, await answer.text(), format);
  }
  assert.deepEqual(page.faults, []);
});

test("searches are kept under a name", async () => {
  const page = await open(browser, agent, { path: "/?q=duration_ms:>5&live=0" });
  await page.click("text=Save search");
  await page.fill("#saved-name", "longer ones");
  await page.keyboard.press("Enter");
  await page.waitForSelector('.chip.on:has-text("longer ones")');
  await page.reload();
  await page.waitForSelector('.chip.on:has-text("longer ones")');
  await page.click('[aria-label="Remove the search longer ones"]');
  await page.waitForSelector('.chip:has-text("longer ones")', { state: "detached" });
});
