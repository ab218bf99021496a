// Live: events as they come, paused and resumed, over a restart of the agent.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { Agent, cell, eventually, launch, open, texts } from "./support.js";

let agent, browser;
before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
});
after(async () => {
  await browser?.close();
  await agent?.stop();
});

const shown = async (page) => (await texts(page, ".row:not([hidden]) .c-what code")).map((text) => text.trim());
const newest = (page, text) => eventually(`the newest is ${text}`, async () => (await shown(page))[0] === text);

test("a first visit shows how to send the first event, and that event arrives", async () => {
  const page = await open(browser, agent);
  await page.waitForSelector("text=No events yet");
  assert.match(await page.innerText(".command"), new RegExp(`curl http://127.0.0.1:${agent.ingest}/`));
  await page.waitForSelector(".live-button.is-live");
  await agent.send(cell({ code: "first()" }), { isSeen: false });
  await newest(page, "first()");
  assert.equal(await page.locator("text=No events yet").count(), 0);
  assert.deepEqual(page.faults, []);
});

test("an event is seen without anybody asking for it", async () => {
  const page = await open(browser, agent);
  await page.waitForSelector(".live-button.is-live");
  // What must appear is counted in frames of the page, not in time that other work on the machine takes.
  for (let nth = 0; nth < 5; nth++) {
    await agent.send(cell({ code: `quick(${nth})` }), { isSeen: false });
    await newest(page, `quick(${nth})`);
  }
  assert.ok((await page.innerText(".count")).includes("events"));
});

test("a pause keeps the list, counts what waits, and a restart loses nothing", async () => {
  const page = await open(browser, agent);
  await page.waitForSelector(".live-button.is-live");
  await agent.send(cell({ code: "before()" }), { isSeen: false });
  await newest(page, "before()");
  await page.click(".live-button");
  await page.waitForSelector(".live-button.is-paused");
  await agent.send([1, 2, 3].map((nth) => cell({ code: `waits(${nth})` })), { isSeen: false });
  await eventually("three wait", async () => (await page.innerText(".pill")).includes("3 new events"));
  assert.equal((await shown(page))[0], "before()");
  await agent.kill("SIGKILL");
  await eventually("the page notices", async () => /Paused/.test(await page.innerText(".live-button")));
  await agent.run();
  await agent.send([4, 5].map((nth) => cell({ code: `waits(${nth})` })), { isSeen: false });
  await eventually("five wait", async () => (await page.innerText(".pill")).includes("5 new events"));
  await page.click(".pill");
  await page.waitForSelector(".live-button.is-live");
  await newest(page, "waits(5)");
  assert.deepEqual((await shown(page)).slice(0, 6), ["waits(5)", "waits(4)", "waits(3)", "waits(2)", "waits(1)", "before()"]);
  await agent.kill();
  await page.waitForSelector(".live-button.is-reconnecting");
  await agent.run();
  await agent.send(cell({ code: "again()" }), { isSeen: false });
  await newest(page, "again()");
  assert.deepEqual(page.faults, []);
});

test("a list that is paused at once stays as it is", async () => {
  await agent.send(cell({ code: "before()" }));
  const page = await open(browser, agent);
  await page.waitForSelector(".live-button.is-live");
  await eventually("the list", async () => (await shown(page)).length > 0);
  await page.keyboard.press("p");
  const before = await shown(page);
  await agent.send([1, 2].map((nth) => cell({ code: `paused(${nth})` })));
  await eventually("two wait", async () => (await page.innerText(".pill")).includes("3 new events"));
  // Longer than the page takes to look once more for what the store had not yet.
  await page.waitForTimeout(2500);
  assert.deepEqual(await shown(page), before);
  await page.click(".pill");
  await newest(page, "paused(2)");
  const all = (await shown(page)).filter((text) => text.startsWith("paused"));
  assert.deepEqual(all, ["paused(2)", "paused(1)"]);
});

test("who reads further down is not moved by what comes", async () => {
  await agent.send(Array.from({ length: 300 }, (_, nth) => cell({ code: `old(${nth})` })));
  const page = await open(browser, agent);
  await eventually("the list", async () => (await shown(page)).length > 10);
  await page.locator(".list").evaluate((list) => (list.scrollTop = 3000));
  await page.waitForSelector('.row:has-text("old(200)")');
  const before = await shown(page);
  await agent.send(cell({ code: "new()" }), { isSeen: false });
  await eventually("one waits", async () => (await page.innerText(".pill")).includes("1 new event"));
  assert.deepEqual(await shown(page), before);
  await page.click(".pill");
  await newest(page, "new()");
});

test("only what the search means arrives, and what fell out is a row", async () => {
  const page = await open(browser, agent, { path: "/?q=status:error" });
  await page.waitForSelector(".live-button.is-live");
  await agent.send([cell({ code: "fine()" }), cell({ code: "bad()", status: "error" })], { isSeen: false });
  await newest(page, "bad()");
  assert.ok(!(await shown(page)).includes("fine()"));
  // A gap, as the stream would tell of it.
  await page.route("**/api/stream*", (route) => route.fulfill({ contentType: "text/event-stream", body: 'id: 9\nevent: gap\ndata: {"missed":7,"from_seq":1,"to_seq":9}\n\n' }));
  await page.reload();
  await page.waitForSelector('.row.gap:has-text("7 events were missed here")');
  assert.deepEqual(page.faults, []);
});
