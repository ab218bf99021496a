// Figures of the page for benches/README.md: `tests/ui/run measure`. `WEIR_BIN` names a release build.
import { Agent, cell, launch, open } from "./browser/support.js";

const PART = 5000;
const PARTS = 21;

/** Frames a second, and the longest frame, while `step` runs in each. */
function frames([count, step]) {
  const list = document.querySelector(".list");
  const times = [];
  let last = performance.now();
  return new Promise((done) => {
    const tick = (now) => {
      times.push(now - last);
      last = now;
      list.scrollTop += step;
      if (times.length <= count) return requestAnimationFrame(tick);
      times.shift();
      const sum = times.reduce((a, b) => a + b, 0);
      done(`${Math.round((1000 * times.length) / sum)} frames a second, the longest ${Math.round(Math.max(...times))} ms`);
    };
    requestAnimationFrame(tick);
  });
}

const [agent, browser] = await Promise.all([Agent.start(), launch()]);
const now = Date.now();
for (let part = 0; part < PARTS; part++) {
  const events = Array.from({ length: PART }, (_, nth) => cell({ user_id: `u${nth % 50}`, code: `import pandas as pd\ndf = pd.read_csv("${nth}.csv")`, timestamp: new Date(now - part * 500_000 - nth * 100).toISOString() }));
  await agent.send(events, { isSeen: part === PARTS - 1 });
}
const page = await open(browser, agent, { path: "/?range=all&live=0", reducedMotion: "no-preference" });
const paints = [];
for (let round = 0; round < 7; round++) {
  await page.goto(`${agent.url}/?range=24h&live=0`);
  await page.waitForSelector(".row:has(code)");
  paints.push(await page.evaluate(() => [performance.getEntriesByName("first-contentful-paint")[0].startTime, performance.now()].map(Math.round)));
}
const middle = (nth) => paints.map((pair) => pair[nth]).sort((a, b) => a - b)[3];
console.log(`first paint after ${middle(0)} ms, rows of ${PART * PARTS} events after ${middle(1)} ms (median of 7)`);
await page.goto(`${agent.url}/?range=all&live=0`);
await page.waitForSelector(".row:has(code)");
for (const [name, step] of [["slow", 60], ["fast", 2000], ["to the end", 11_000]]) {
  await page.locator(".list").evaluate((list) => (list.scrollTop = 0));
  console.log(`scrolling ${name}: ${await page.evaluate(frames, [300, step])}`);
}
await page.goto(agent.url);
await page.waitForSelector(".live-button.is-live");
let isOver = false;
const pump = (async () => {
  while (!isOver) {
    const next = Date.now() + 100;
    await agent.send(Array.from({ length: 100 }, () => cell()), { isSeen: false });
    await new Promise((done) => setTimeout(done, Math.max(0, next - Date.now())));
  }
})();
await page.waitForTimeout(5000);
console.log(`live at 1,000 events a second: ${await page.evaluate(frames, [600, 0])}`);
isOver = true;
await pump;
await page.waitForTimeout(2000);
const behind = [];
for (let nth = 0; nth < 10; nth++) {
  const mark = `marked_${nth}()`;
  const seen = page.waitForFunction((text) => [...document.querySelectorAll(".row code")].some((one) => one.textContent === text), mark, { polling: "raf" });
  const sent = Date.now();
  await agent.send(cell({ code: mark }), { isSeen: false });
  await seen;
  behind.push(Date.now() - sent);
}
console.log(`an event is seen ${behind.sort((a, b) => a - b)[5]} ms after it is sent, at most ${behind[9]} ms`);
await browser.close();
await agent.stop();
