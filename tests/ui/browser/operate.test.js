// Overview, users, sessions and operation: numbers are the API's, and acts have their outcome.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { Agent, cell, eventually, launch, open, texts } from "./support.js";
import { history } from "./history.js";

let agent, browser;
before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
  await agent.send(history(1500));
});
after(async () => {
  await browser?.close();
  await agent?.stop();
});

const plain = (text) => text.replaceAll(",", "");
const card = async (page, name) => plain(await page.innerText(`.card:has(.card-name:text-is("${name}")) .card-value`));

test("the numbers of the overview are the API's", async () => {
  const page = await open(browser, agent, { path: "/?view=overview" });
  await page.waitForSelector(".card");
  const since = new Date(Date.now() - 13 * 86_400_000).toISOString().slice(0, 10);
  const stats = (more) => agent.get(`/api/logs/stats?${new URLSearchParams({ q: "has:code -status:in_progress", start_date: since, tz: "UTC", ...more })}`);
  const [all, days, users, system] = await Promise.all([stats({}), stats({ group_by: "day" }), stats({ group_by: "user_id" }), agent.get("/api/admin/system-stats")]);
  assert.equal(await card(page, "Executions"), String(system.total_executions));
  assert.equal(await card(page, "Today"), String(system.today_executions));
  assert.equal(await card(page, "Errors"), String(all.errors));
  assert.equal(await card(page, "Success"), `${all.success_rate}%`);
  assert.equal(await card(page, "Active users"), String(system.active_users));
  assert.equal(await page.locator(".columns a.column").count(), 14);
  const busiest = days.groups.reduce((most, day) => Math.max(most, day.count), 0);
  assert.equal(plain((await texts(page, ".columns-scale span"))[0]), String(busiest));
  const top = await page.locator('.panel:has-text("Top users") tbody tr').first().innerText();
  assert.deepEqual(top.split(/\s+/).slice(0, 2).map(plain), [users.groups[0].user_id, String(users.groups[0].count)]);
  await page.locator(".columns a.column").nth(12).click();
  await page.waitForSelector(".row:has(code)");
  assert.match(page.url(), /from=/);
  assert.deepEqual(page.faults, []);
});

test("users and sessions say what the API says", async () => {
  const page = await open(browser, agent, { path: "/?view=people&range=all" });
  await page.waitForSelector(".table");
  const { groups } = await agent.get("/api/logs/stats?group_by=user_id");
  const ali = groups.find((group) => group.user_id === "ali");
  const row = plain(await page.locator('tr:has(bdi:text-is("ali"))').first().innerText()).split(/\s+/);
  assert.deepEqual(row.slice(0, 3), ["ali", String(ali.count), String(ali.errors)]);
  await page.click('a:has(bdi:text-is("ali")) >> nth=0');
  await page.waitForSelector(".lane-bars rect");
  const { sessions } = await agent.get("/api/sessions?user_id=ali");
  await page.locator(`a[title="${sessions[0].session_id}"]`).last().click();
  await page.waitForSelector('h1:has-text("Session")');
  const report = await agent.get(`/get_logs?format=json&session_id=${encodeURIComponent(sessions[0].session_id)}`);
  const figures = (await texts(page, ".figures dd")).map(plain);
  assert.deepEqual(figures.slice(0, 4), [report.summary.total_activities, report.summary.success_count, report.summary.failed_count, `${report.summary.success_rate}%`].map(String));
  await page.locator(".lane-bars rect").first().click({ force: true });
  await page.waitForSelector(".event .fields");
  assert.deepEqual(page.faults, []);
});

test("a running operation is open in its session until it ends", async () => {
  const operation = { session_id: "open", user_id: "ali", operation_id: "op-1", event_type: "cell.start", status: "in_progress", code: "sleep()" };
  await agent.send([operation, { session_id: "open", user_id: "ali", event_type: "cell.finish", status: "lost" }]);
  const page = await open(browser, agent, { path: "/?view=people&session=open" });
  await page.waitForSelector(".lane-bars rect.open");
  assert.ok((await texts(page, ".figures div")).some((text) => /Still open\s+1/.test(text)));
  await agent.send({ ...operation, event_type: "cell.finish", status: "success", duration_ms: 5 });
  await page.reload();
  await page.waitForSelector(".lane-bars rect");
  assert.equal(await page.locator(".lane-bars rect.open").count(), 0);
});

test("dead letters are shown, replayed and dropped", async () => {
  for (let nth = 0; nth < 3; nth++) {
    for (const description of ["first", "another"]) await agent.send({ id: `0190163d-8694-739b-aea5-966c26f8ad9${nth}`, event_type: "order.paid", description });
  }
  await eventually("dead letters", async () => (await agent.get("/api/dlq")).total === 3);
  const page = await open(browser, agent, { path: "/?view=operate&tab=dead_letters" });
  await page.waitForSelector(".dead-letter");
  await page.locator(".dead-letter .text-button").first().click();
  await page.waitForSelector("dialog .code-line");
  assert.match(await page.innerText("dialog"), /another/);
  await page.click("dialog button:has-text('Replay')");
  await page.waitForSelector(".notice");
  await page.locator(".dead-letter input").nth(0).check();
  await page.locator(".dead-letter input").nth(1).check();
  await page.click("button:has-text('Drop (2)')");
  await page.click("dialog button:has-text('Drop')");
  await page.waitForSelector(".notice:has-text('2 dead letters dropped')");
  await eventually("one is left", async () => (await agent.get("/api/dlq")).total <= 1);
  assert.deepEqual(page.faults, []);
});

test("an alert is told, listed and leads to its events", async () => {
  const page = await open(browser, agent, { path: "/" });
  await page.waitForSelector(".live-button.is-live");
  const id = "0190163d-8694-739b-aea5-966c26f8ada1";
  await agent.send({ id, event_type: "login_failed", user_id: "ali" });
  await agent.send({ event_type: "alert", description: "5 failures of ali", metadata: { rule: "brute force", severity: "critical", event_ids: [id] } });
  await page.waitForSelector(".notice:has-text('Alert: 5 failures of ali')");
  await page.click(".notice button:has-text('Open')");
  await page.click(`.event a:has-text("${id}")`);
  await page.waitForSelector(".event h2:has-text('login_failed')");
  await page.goto(`${agent.url}/?view=operate&tab=alerts`);
  await page.waitForSelector("td:has-text('5 failures of ali')");
  assert.equal(await page.innerText(".severity"), "critical");
  assert.deepEqual(page.faults, []);
});

test("the pipeline is a graph of all components, and a reload says its outcome", async () => {
  const page = await open(browser, agent, { path: "/?view=operate" });
  await page.waitForSelector(".graph");
  const { components } = await agent.get("/api/pipeline");
  assert.deepEqual((await page.locator(".node-name").allTextContents()).sort(), components.map((one) => one.name).sort());
  assert.equal(await page.locator(".edge").count(), 5);
  const file = join(agent.folder, "weir.yaml");
  const before = readFileSync(file, "utf8");
  await page.click('.tabs a:has-text("Configuration")');
  await page.waitForSelector(".tree");
  assert.ok(!/a secret of|-password/.test(await page.innerText(".operate-body")));
  const reload = async () => {
    await page.click("button:has-text('Reload')");
    await page.click("dialog button:has-text('Reload')");
  };
  writeFileSync(file, `${before}  more: { type: blackhole, inputs: [short] }\n`);
  await reload();
  await page.waitForSelector(".notice.good:has-text('more')");
  writeFileSync(file, `${before}  more: { type: blackhole, inputs: [nobody] }\n`);
  await reload();
  await page.waitForSelector("dialog:has-text('The reload was refused')");
  assert.match(await page.innerText("dialog"), /nobody/);
  assert.deepEqual(page.faults, []);
});

/** As a table without some columns answers, which names people. */
async function lacking(page, columns) {
  const lack = (column, status) => ({ status, contentType: "application/problem+json", body: JSON.stringify({ title: "x", status, detail: `${status === 400 ? "q: " : ""}the table \`activity_logs\` has no column for \`${column}\`` }) });
  await page.route("**/api/**", async (route) => {
    const url = new URL(route.request().url());
    const asked = `${url.searchParams.get("q") ?? ""}`;
    const missing = columns.find((column) => new RegExp(`\\b${column}:|has:${column}\\b`).test(asked));
    if (missing) return route.fulfill(lack(missing, 400));
    if (columns.includes("session_id") && url.pathname === "/api/sessions") return route.fulfill(lack("session_id", 404));
    const grouped = columns.find((column) => url.searchParams.get("group_by") === column);
    if (grouped) return route.fulfill(lack(grouped, 404));
    if (url.pathname !== "/api/logs" || route.request().method() !== "GET") return route.continue();
    try {
      const answer = await route.fetch();
      const body = await answer.json();
      for (const row of body.logs) row.user_display_name = `Name of ${row.user_id}`;
      await route.fulfill({ response: answer, json: body });
    } catch {
      // The page has gone on to another view, or the test is over: nobody waits for this answer.
    }
  });
}

test("a table without code, sessions or status shows what it has, and people by their names", async () => {
  for (const columns of [["code", "session_id"], ["code", "session_id", "status", "endpoint"]]) {
    const page = await open(browser, agent, { path: "/version" });
    await lacking(page, columns);
    await page.goto(`${agent.url}/?view=overview`);
    await page.waitForSelector(".card");
    assert.equal(await page.locator(".error-state").count(), 0);
    const q = columns.includes("status") ? "" : "-status:in_progress -event_type:(activity_read OR admin_view_activity_logs)";
    const since = new Date(Date.now() - 13 * 86_400_000).toISOString().slice(0, 10);
    const { groups } = await agent.get(`/api/logs/stats?${new URLSearchParams({ q, start_date: since, tz: "UTC", group_by: "event_type" })}`);
    const first = await page.locator('.panel:has(h2:text-is("What happened")) tbody tr').first().innerText();
    assert.deepEqual(first.split(/\s+/).slice(0, 2).map(plain), [groups[0].event_type, String(groups[0].count)]);
    await page.goto(`${agent.url}/?view=people&range=all`);
    await page.waitForSelector('a:has-text("Name of ali")');
    assert.equal(await page.locator("h2:text-is('Sessions')").count(), 0);
    await page.click('a:has-text("Name of ali")');
    await page.waitForSelector(".lane-bars rect");
    assert.match(await page.innerText("h1"), /Name of ali/);
    await page.goto(`${agent.url}/?range=all&live=false`);
    await page.waitForSelector('.row:has-text("Name of ali")');
    assert.deepEqual(page.faults, []);
  }
});

test("the overview of a product without code counts its events", async () => {
  const chat = await Agent.start();
  await chat.send(["ok", "ok", "failed"].map((status, nth) => ({ event_type: "message.send", user_id: "ali", status, endpoint: `/chat/${nth}`, timestamp: new Date().toISOString() })), { isSeen: false });
  await eventually("they are read", async () => (await chat.get("/api/logs?event_type=message.send")).total === 3);
  const page = await open(browser, chat, { path: "/?view=overview" });
  await page.waitForSelector(".card");
  assert.equal(await card(page, "Events"), "3");
  assert.match(await page.locator('.panel:has(h2:text-is("What happened")) tbody tr').first().innerText(), /message\.send\s+3/);
  await chat.stop();
});

test("what trying again cannot help is not tried again", async () => {
  const page = await open(browser, agent, { path: "/version" });
  await lacking(page, ["session_id"]);
  await page.route("**/get_logs**", (route) => route.fulfill({ status: 404, contentType: "application/problem+json", body: JSON.stringify({ detail: "the table `activity_logs` has no column for `session_id`" }) }));
  await page.goto(`${agent.url}/?view=people&session=s-1`);
  await page.waitForSelector(".error-state");
  assert.equal(await page.locator(".error-state button").count(), 0);
});
