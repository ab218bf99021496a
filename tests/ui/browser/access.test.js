// Who is there, and what each role is shown.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { Agent, cell, eventually, launch, open, texts, token } from "./support.js";

let agent, browser;
before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
  await agent.send([cell(), cell({ user_id: "sara" }), cell({ code: "x".repeat(500) })]);
});
after(async () => {
  await browser?.close();
  await agent?.stop();
});

test("the token of a login link leaves the address, and the session survives a restart", async () => {
  const link = `/?token=${await token("root", "admin")}&q=status:success`;
  const page = await open(browser, agent, { user: null, path: link });
  await page.waitForSelector(".row code");
  assert.equal(new URL(page.url()).search, "?q=status%3Asuccess");
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ["weir_session", true, "Strict"]);
  assert.equal(await page.evaluate(() => document.cookie + Object.values(localStorage).join()).then((text) => /weir_session|eyJ/.test(text)), false);
  await agent.kill();
  await agent.run();
  await page.reload();
  await page.waitForSelector(".row code");
  assert.deepEqual(page.faults, []);
});

test("a link that is used up says so, and both forms let in", async () => {
  const page = await open(browser, agent, { user: null, path: `/?token=${await token("root", "admin", -10)}` });
  await page.waitForSelector(".form-error:not([hidden])");
  assert.match(await page.innerText(".form-error"), /not valid any more/);
  assert.equal(new URL(page.url()).search, "");
  await page.fill("#login-token", "nonsense");
  await page.click("button[type=submit]");
  await eventually("the token is refused", async () => /not known/.test(await page.innerText(".form-error")));
  await page.fill("#login-token", await token("root", "admin"));
  await page.click("button[type=submit]");
  await page.waitForSelector(".row code");
  await page.click(".user-button");
  await page.click("text=Log out");
  await page.waitForSelector(".login-card");
  await page.reload();
  await page.click("button:text-is('Password')");
  await page.fill("#login-user", "ali");
  await page.fill("#login-password", "ali-password");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".row code");
  assert.deepEqual(page.faults, []);
});

test("a session that ends keeps the state of the page", async () => {
  const end = Date.now() + 12_000;
  const page = await open(browser, agent, { user: null, path: `/?token=${await token("root", "admin", 12)}&q=has:code&live=0` });
  await page.waitForSelector(".row code");
  await page.waitForTimeout(end + 500 - Date.now());
  await page.click(".row >> nth=0");
  await page.waitForSelector("text=Your session has ended");
  await page.fill("#login-token", await token("root", "admin"));
  await page.click("button[type=submit]");
  await page.waitForSelector(".event:not([hidden]) .code");
  assert.equal(await page.inputValue(".search-input"), "has:code");
});

test("each role is shown what it may do", async () => {
  const nav = async (user) => {
    const page = await open(browser, agent, { user });
    await page.waitForSelector(".row code");
    const users = new Set(await texts(page, ".c-user .cell-text"));
    const seen = { views: await texts(page, ".nav a"), canExport: await page.locator('[aria-label="Export"]').count(), users: [...users].filter(Boolean).sort() };
    await page.keyboard.press("e");
    seen.dialog = await page.locator("dialog").count();
    await page.goto(`${agent.url}/?view=operate`);
    await page.waitForSelector(".nav");
    seen.operates = await page.locator(".tabs").count();
    assert.deepEqual(page.faults, []);
    await page.context().close();
    return seen;
  };
  assert.deepEqual(await nav("ali"), { views: ["Events", "Overview", "Sessions"], canExport: 1, users: ["ali"], dialog: 1, operates: 0 });
  assert.deepEqual(await nav("vera"), { views: ["Events", "Overview", "Users"], canExport: 0, users: ["ali", "root", "sara"], dialog: 0, operates: 0 });
  assert.deepEqual(await nav("root"), { views: ["Events", "Overview", "Users", "Operate"], canExport: 1, users: ["ali", "root", "sara"], dialog: 1, operates: 1 });
});

test("a viewer sees previews and an administrator the whole", async () => {
  const length = async (user) => {
    const page = await open(browser, agent, { user, path: "/?q=xxxxxxxxxx&live=0" });
    await page.click(".row:has(code)");
    await page.waitForSelector(".event .code-line");
    return (await page.innerText(".event .code-lines")).trim().length;
  };
  assert.deepEqual([await length("vera"), await length("root")], [100, 500]);
});
