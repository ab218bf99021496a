// Hostile events: whatever an event says stays text, in every field, key and view.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { Agent, cell, eventually, launch, open } from "./support.js";

/** Payloads, each with a mark of its own that a script would leave behind. */
const TEMPLATES = [
  "<script>BOOM</script>", "<ScRiPt>BOOM</ScRiPt>", "<script src=//evil.example/N.js></script>", "<img src=x onerror=BOOM>", "<img src=//evil.example/N.png>", "<svg onload=BOOM>", "<svg><script>BOOM</script></svg>",
  "<svg><animate onbegin=BOOM attributeName=x dur=1s>", "<iframe src=javascript:BOOM></iframe>", "<iframe srcdoc='<script>BOOM</script>'></iframe>", "<body onload=BOOM>", "<input autofocus onfocus=BOOM>", "<details open ontoggle=BOOM>",
  "<video><source onerror=BOOM></video>", "<audio src=x onerror=BOOM>", "<object data=javascript:BOOM></object>", "<embed src=javascript:BOOM>", "<a href=javascript:BOOM>x</a>", "<form action=javascript:BOOM><button>x</button></form>", "<math href=javascript:BOOM>x</math>",
  "<link rel=stylesheet href=//evil.example/N.css>", "<style>@import '//evil.example/N.css'</style>", "<style>*{background:url(//evil.example/N)}</style>", "<meta http-equiv=refresh content='0;url=//evil.example/N'>", "<base href=//evil.example/>",
  "<template><script>BOOM</script></template>", "<noscript><p title='</noscript><img src=x onerror=BOOM>'>", "<textarea></textarea><script>BOOM</script>", "</textarea><img src=x onerror=BOOM>", "</title><script>BOOM</script>", "</script><script>BOOM</script>", "</style><script>BOOM</script>",
  "--><img src=x onerror=BOOM>", "]]><script>BOOM</script>", "\"><img src=x onerror=BOOM>", "' onmouseover=BOOM x='", "\" autofocus onfocus=BOOM x=\"", "` onmouseover=BOOM `", "javascript:BOOM", "JaVaScRiPt:BOOM//", "data:text/html,<script>BOOM</script>", "vbscript:BOOM",
  "{{constructor.constructor('BOOM')()}}", "${BOOM}", "#{BOOM}", "<%= BOOM %>", "[[BOOM]]", "__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "then",
  "\u202eTXT.BOOM\u202c", "\u2066<img src=x onerror=BOOM>\u2069", "\u001b]8;;javascript:BOOM\u0007x\u001b]8;;\u0007", "\u001b[31mred\u001b[0m", "\u0000<img src=x onerror=BOOM>", "\u2028BOOM\u2029", "\ufeff<script>BOOM</script>", "\u200b\u200c\u200d<b>BOOM</b>",
  "<img\u0000src=x onerror=BOOM>", "<img/src=x/onerror=BOOM>", "<img src=x onerror\n=\nBOOM>", "&lt;script&gt;BOOM&lt;/script&gt;", "&#60;script&#62;BOOM&#60;/script&#62;", "\\u003cscript\\u003eBOOM\\u003c/script\\u003e", "%3Cscript%3EBOOM%3C/script%3E", "=cmd|'/c BOOM'!A0", "=HYPERLINK(\"//evil.example/N\")",
  "+1+BOOM", "-BOOM", "@SUM(1+1)*BOOM", "\t=BOOM", "\r=BOOM", "?view=operate&token=BOOM", "#BOOM", "../../../BOOM", "//evil.example/N", "https://evil.example/N", "blob:https://evil.example/N", "user\" OR \"\"=\"", "status:(", "a) OR (b", "~\"(a+)+$\"",
  "a\"b\\c", "$(BOOM)", "`BOOM`", "';BOOM;'", "|BOOM", "\n\n\n", " ", "", "null", "undefined", "NaN", "true", "0", "-1", "1e999", "9007199254740993", "مریم <img src=x onerror=BOOM> سلام", "👩‍👩‍👧‍👦<b>", "𝕏".repeat(50), "A".repeat(5000), "<".repeat(2000), "(".repeat(500), "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "\ud800", "\\", "\\\\\"",
];
const payload = (nth) => TEMPLATES[nth % TEMPLATES.length].replaceAll("BOOM", `window.pwned=${nth}`).replaceAll("/N", `/${nth}`).toWellFormed();
const COUNT = 200;
const FIELDS = ["code", "description", "error_message", "error_trace", "error_type", "event_type", "status", "user_id", "user_email", "user_display_name", "session_id", "operation_id", "language", "notebook", "kernel_id", "entity_type", "entity_id", "target_user_id", "endpoint", "http_method", "host", "trace_id", "user_agent", "ip_address"];

let agent, browser;
before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
});
after(async () => {
  await browser?.close();
  await agent?.stop();
});

/** Whether a text of an event has become markup, code or a request. */
async function isClean(page) {
  const found = await page.evaluate(() => ({
    pwned: window.pwned, polluted: {}.polluted, scripts: [...document.scripts].filter((one) => !one.src.includes("/ui/")).length,
    strange: document.querySelectorAll("img, iframe, object, embed, video, audio, style, base, meta[http-equiv], form[action], [onerror], [onload], [onclick], [onfocus], [srcdoc]").length,
    links: [...document.querySelectorAll("a[href]")].filter((one) => new URL(one.href).origin !== location.origin).length,
  }));
  assert.deepEqual(found, { pwned: undefined, polluted: undefined, scripts: 0, strange: 0, links: 0 });
  assert.deepEqual(page.faults, []);
}

test("two hundred payloads in every field stay text in every view", async () => {
  const page = await open(browser, agent, { path: "/?range=all" });
  await page.waitForSelector(".live-button.is-live");
  const events = Array.from({ length: COUNT }, (_, nth) => {
    const text = payload(nth);
    const event = Object.fromEntries(FIELDS.map((field) => [field, text]));
    return { ...event, cell_number: nth, duration_ms: nth, timestamp: new Date().toISOString(), metadata: { [text || "k"]: text, list: [text, { [`${text}!`]: text }], polluted: text } };
  });
  await agent.send(events);
  await eventually("they arrive", async () => (await page.innerText(".count")).includes("events"));
  await isClean(page);
  const { logs } = await agent.get(`/api/logs?limit=1000&q=has:notebook`);
  assert.equal(logs.length, COUNT);
  // Each one is opened; the tree, the raw event and the context are shown.
  for (const row of logs.filter((_, nth) => nth % 4 === 0 || nth < 70)) {
    await page.evaluate((id) => {
      history.pushState(null, "", `?event=${id}&range=all`);
      dispatchEvent(new PopStateEvent("popstate"));
    }, row.id);
    await page.waitForSelector(".event .fields");
    await page.evaluate(() => document.querySelectorAll(".event details").forEach((one) => (one.open = true)));
  }
  await isClean(page);
  for (const format of ["csv", "json", "ndjson"]) {
    await page.keyboard.press("e");
    await page.check(`input[value=${format}]`);
    await Promise.all([page.waitForEvent("download"), page.click("dialog button[type=submit]")]);
    await page.waitForSelector("dialog", { state: "detached" });
  }
  await isClean(page);
  for (const path of ["/?view=overview", "/?view=people&range=all", "/?view=operate", "/?view=operate&tab=dead_letters", "/?view=operate&tab=alerts", "/?view=operate&tab=config"]) {
    await page.goto(agent.url + path);
    await page.waitForSelector(".skeleton", { state: "detached" });
    await page.waitForSelector(".table, .empty, .tree");
    await isClean(page);
  }
});

test("names of users and sessions are text, in addresses as well", async () => {
  const page = await open(browser, agent, { path: "/" });
  for (const nth of [0, 3, 14, 35, 38, 47, 53, 84]) {
    for (const name of ["user", "session", "event", "q", "tab", "view", "from"]) {
      await page.goto(`${agent.url}/?${new URLSearchParams({ view: "people", [name]: payload(nth) })}`);
      await page.waitForSelector(".skeleton", { state: "detached" });
      await isClean(page);
    }
  }
});

test("saved searches, history and completion are text", async () => {
  const page = await open(browser, agent, { path: "/?range=all&live=0" });
  await page.evaluate((texts) => {
    localStorage.setItem("weir.saved", JSON.stringify(texts.map((text) => ({ name: text, q: text }))));
    localStorage.setItem("weir.history", JSON.stringify(texts));
    localStorage.setItem("weir.theme", JSON.stringify(texts[0]));
    localStorage.setItem("weir.language", "{broken");
  }, Array.from({ length: 30 }, (_, nth) => payload(nth)));
  await page.reload();
  await page.waitForSelector(".chip");
  await page.click(".search-input");
  await page.waitForSelector(".suggestion");
  await page.keyboard.type("user_id:");
  await page.waitForSelector(".suggestion");
  await isClean(page);
});

test("large and strange events are shown without harm", async () => {
  const members = Object.fromEntries(Array.from({ length: 9_000 }, (_, nth) => [`member_${nth}`, nth]));
  await agent.send([
    cell({ code: `x = "${"a".repeat(900_000)}"`, session_id: "large" }), cell({ code: "line\n".repeat(30_000), session_id: "large" }), cell({ code: "members", metadata: members, session_id: "large" }),
    cell({ code: "deep", metadata: JSON.parse(`${'{"a":'.repeat(60)}1${"}".repeat(60)}`), session_id: "large" }), cell({ code: "proto", metadata: JSON.parse('{"__proto__":{"polluted":"yes"},"constructor":{"prototype":{"polluted":"yes"}}}'), session_id: "large" }),
  ]);
  const page = await open(browser, agent, { path: "/?q=session_id:large&range=all&live=0" });
  await page.waitForSelector(".row:has(code)");
  const { logs } = await agent.get("/api/logs?q=session_id:large");
  for (const row of logs) {
    await page.goto(`${agent.url}/?q=session_id:large&range=all&live=0&event=${row.id}`);
    await page.waitForSelector(".event .fields");
    await page.evaluate(() => document.querySelectorAll(".event details").forEach((one) => (one.open = true)));
    await page.waitForSelector(".raw .code-line");
    assert.ok(await page.evaluate(() => document.querySelectorAll("*").length) < 6000, row.code);
    const all = page.locator(".code > .text-button:has-text('Show all')").first();
    if (await all.count()) await all.click();
    await isClean(page);
  }
});

test("no answer of the API is a document that a browser would run", async () => {
  const { logs } = await agent.get("/api/logs?limit=1");
  const page = await open(browser, agent, { path: "/version" });
  for (const path of ["/api/logs", `/api/logs/${logs[0].id}`, "/api/logs/export?format=csv", "/api/sessions", "/api/fields", "/get_logs", "/api/logs?q=%3Cscript%3E", "/nothing/%3Cscript%3E", "/api/nothing", "/ui/x/main.js"]) {
    const answer = await page.evaluate(async (path) => {
      const { headers } = await fetch(path);
      return { type: headers.get("content-type"), sniff: headers.get("x-content-type-options"), policy: headers.get("content-security-policy") };
    }, path);
    assert.equal(answer.sniff, "nosniff", path);
    if (/html/.test(answer.type)) assert.match(answer.policy ?? "", /default-src 'none'/, path);
  }
});

test("the policy itself stops what would get by", async () => {
  const page = await open(browser, agent, { path: "/" });
  await page.waitForSelector(".nav");
  const stopped = await page.evaluate(async () => {
    const attempts = {
      markup: () => (document.body.innerHTML = "<b>x</b>"), script: () => (document.createElement("script").text = "1"),
      policy: () => window.trustedTypes.createPolicy("any", { createHTML: (text) => text }),
    };
    const out = {};
    for (const [name, attempt] of Object.entries(attempts)) {
      try {
        attempt();
        out[name] = "done";
      } catch {
        out[name] = "stopped";
      }
    }
    out.elsewhere = await fetch("https://evil.example/").then(() => "done", () => "stopped");
    return out;
  });
  assert.deepEqual(stopped, { markup: "stopped", script: "stopped", policy: "stopped", elsewhere: "stopped" });
  const headers = await fetch(`${agent.url}/`).then((answer) => answer.headers);
  const policy = headers.get("content-security-policy");
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) assert.ok(policy.includes(part), part);
  assert.ok(!/unsafe|\*/.test(policy), policy);
});
