// An agent of its own, a browser, and pages that notice what no page may do.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "node:test";

const root = join(import.meta.dirname, "../../..");
export const tools = createRequire(join(process.env.WEIR_UI_TOOLS ?? join(root, "target/ui-tools"), "package.json"));
const { chromium } = tools("playwright-core");

const PASSWORDS = { root: "admin", vera: "viewer", ali: "user", sara: "user" };
/** Answers of the API come this many tenths of a second late: a test that only passes on a fast machine fails with WEIR_UI_SLOWNESS=4. */
const SLOWNESS = Number(process.env.WEIR_UI_SLOWNESS ?? 0);
/** Milliseconds for whatever a test waits for. */
const PATIENCE = 30_000 * Math.max(1, SLOWNESS);

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

export async function eventually(what, check) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await check();
    if (found) return found;
    assert.ok(Date.now() < end, `never: ${what}`);
    await new Promise((done) => setTimeout(done, 25));
  }
}

export class Agent {
  static async start(more = "") {
    const agent = new Agent();
    agent.folder = mkdtempSync(join(tmpdir(), "weir-ui-"));
    [agent.api, agent.ingest] = [await freePort(), await freePort()];
    agent.url = `http://127.0.0.1:${agent.api}`;
    const users = Object.entries(PASSWORDS).map(([name, role]) => `      ${name}: { password: ${name}-password, role: ${role} }`);
    agent.config = [
      `data_dir: ${agent.folder}/data`, "api:", `  address: 127.0.0.1:${agent.api}`, "  auth:", "    jwt: { secret: 'a secret of 32 bytes for tests only!' }", "    basic:", ...users,
      "sources:", `  web: { type: http, address: '127.0.0.1:${agent.ingest}' }`,
      "transforms:", "  named: { type: normalize, inputs: [web, api] }", "  safe: { type: redact, inputs: [named] }", "  short: { type: truncate, inputs: [safe], fields: [code], max_chars: 100000 }",
      "sinks:", "  events: { type: store, inputs: [short], batch: { age: 20ms } }", more,
    ].join("\n");
    writeFileSync(join(agent.folder, "weir.yaml"), agent.config);
    await agent.run();
    return agent;
  }

  async run() {
    this.process = spawn(process.env.WEIR_BIN ?? join(root, "target/debug/weir"), ["run", "-c", join(this.folder, "weir.yaml")], { stdio: ["ignore", "ignore", "pipe"] });
    this.log = "";
    this.process.stderr.on("data", (data) => (this.log += data));
    await eventually("the agent is ready", () => fetch(`${this.url}/ready`).then((answer) => answer.ok, () => false));
  }

  async kill(signal = "SIGTERM") {
    const ended = new Promise((done) => this.process.once("exit", done));
    this.process.kill(signal);
    await ended;
  }

  async stop() {
    await this.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Sends events and waits until they can be read. */
  async send(events, { isSeen = true } = {}) {
    const body = [events].flat().map((event) => JSON.stringify(event)).join("\n");
    const answer = await fetch(`http://127.0.0.1:${this.ingest}/`, { method: "POST", body });
    const { accepted } = await answer.json();
    assert.equal(accepted, [events].flat().length);
    if (isSeen) await fetch(`${this.url}/api/logs?wait=stored`, { method: "POST", headers: auth("root"), body: JSON.stringify({ event_type: "tick", user_id: "root" }) });
  }

  async get(path, user = "root") {
    const answer = await fetch(this.url + path, { headers: auth(user) });
    assert.ok(answer.ok, `${path}: ${answer.status}`);
    return answer.json();
  }
}

const auth = (user) => ({ authorization: `Basic ${Buffer.from(`${user}:${user}-password`).toString("base64")}` });

export function launch() {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--force-color-profile=srgb"] });
}

async function slowDown(context) {
  await context.route("**/api/**", async (route) => {
    await new Promise((done) => setTimeout(done, 100 * SLOWNESS));
    await route.continue().catch(() => {});
  });
}

/** @type {Set<{ close: () => Promise<void> }>} */
const contexts = new Set();
// A page that nobody looks at any more would go on asking, and slow down those after it.
afterEach(async () => {
  await Promise.all([...contexts].map((context) => context.close()));
  contexts.clear();
});

/** A page of somebody who is logged in. What it must not do is in `page.faults`. */
export async function open(browser, agent, { user = "root", path = "/", ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, locale: "en-GB", timezoneId: "UTC", reducedMotion: "reduce", ...options });
  contexts.add(context);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  if (SLOWNESS) await slowDown(context);
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(`error: ${error.stack}`));
  page.on("dialog", (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted|Refused/i.test(message.text())) page.faults.push(`policy: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(agent.url) && !/^(blob|data):/.test(request.url())) page.faults.push(`request: ${request.url()}`);
  });
  if (user) {
    await page.goto(`${agent.url}/version`);
    const status = await page.evaluate(async ([name]) => (await fetch("/api/login", { method: "POST", body: JSON.stringify({ user: name, password: `${name}-password` }) })).status, [user]);
    assert.equal(status, 200);
  }
  await page.goto(agent.url + path);
  return page;
}

/** The texts of what a selector finds. */
export const texts = (page, selector) => page.locator(selector).allInnerTexts();

let nth = 0;
/** An event as notebooks send it. */
export function cell(more = {}) {
  nth++;
  return {
    event_type: "cell.finish", user_id: "ali", session_id: "s-1", cell_number: nth, language: "python", code: `print(${nth})`, status: "success", duration_ms: 10 + nth,
    timestamp: new Date().toISOString(), host: "nb-1", metadata: { kernel: "python3" }, ...more,
  };
}

/** A token of the agent's secret. */
export async function token(user, role, seconds = 3600) {
  const { createHmac } = await import("node:crypto");
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, role, iat: now, exp: now + seconds })}`;
  return `${body}.${createHmac("sha256", "a secret of 32 bytes for tests only!").update(body).digest("base64url")}`;
}


