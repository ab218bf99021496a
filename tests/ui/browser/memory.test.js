// Memory stays where it is while events rush by. `WEIR_UI_MINUTES` makes it longer: `tests/long/page` takes ten.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { Agent, cell, launch, open } from "./support.js";

const MINUTES = Number(process.env.WEIR_UI_MINUTES ?? 1);
/** Events of a burst, ten of which are sent in a second. */
const BURST = 100;
/** What the page may grow by after it has settled, in bytes. */
const MAX_GROWTH = 8 * 1024 * 1024;
const MAX_NODES = 5000;

let agent, browser;
before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
});
after(async () => {
  await browser?.close();
  await agent?.stop();
});

test("memory is steady while a thousand events a second arrive", async () => {
  const page = await open(browser, agent, { path: "/" });
  await page.waitForSelector(".live-button.is-live");
  const cdp = await page.context().newCDPSession(page);
  const look = async () => {
    await cdp.send("HeapProfiler.collectGarbage");
    const { usedSize } = await cdp.send("Runtime.getHeapUsage");
    return { heap: usedSize, nodes: await page.evaluate(() => document.querySelectorAll("*").length) };
  };
  const end = Date.now() + MINUTES * 60_000;
  const settled = Date.now() + MINUTES * 20_000;
  let [sent, first] = [0, undefined];
  while (Date.now() < end) {
    const next = Date.now() + 100;
    await agent.send(Array.from({ length: BURST }, (_, nth) => cell({ status: nth % 10 ? "success" : "error" })), { isSeen: false });
    sent += BURST;
    if (!first && Date.now() > settled) first = await look();
    await new Promise((done) => setTimeout(done, Math.max(0, next - Date.now())));
  }
  const last = await look();
  console.log(`${sent} events in ${MINUTES} min: heap ${first.heap} → ${last.heap} bytes, ${last.nodes} elements`);
  assert.ok(last.heap - first.heap < MAX_GROWTH, `${first.heap} → ${last.heap}`);
  assert.ok(last.nodes < MAX_NODES, `${last.nodes} elements`);
  assert.deepEqual(page.faults, []);
});
