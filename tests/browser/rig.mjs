// What the checks of the page are made with: the real binary, agents that do as they are told, and a browser.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:http";
import { createConnection, createServer as createListener } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

export const ADMIN = "admin-token-of-the-check";
/** How long anything may take, in ms. */
export const PATIENCE = 20_000;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

/** Waits until `look` gives something that is not false, and gives it. */
export async function eventually(what, look) {
  const until = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > until) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** What was begun and still runs: a check that fails leaves it behind. */
const running = new Set();

export async function endAll() {
  for (const one of running) await one.end();
  await (await browser)?.close();
}

const database = () => join(mkdtempSync(join(tmpdir(), "baton-page-")), "baton.db");

/** A server of Baton on a database of its own. */
export class Baton {
  #settings;
  #process = null;
  #database = database();
  port = 0;

  static async start(settings = {}) {
    const baton = new Baton();
    baton.#settings = settings;
    await baton.start();
    return baton;
  }

  get base() {
    return `http://127.0.0.1:${this.port}`;
  }

  get pid() {
    return this.#process.pid;
  }

  /** Starts it, again at the same address if it was there before. */
  async start() {
    const env = {
      PATH: process.env.PATH, BATON_LOG: "warn", HOST: "127.0.0.1", PORT: String(this.port), DATABASE_URL: `sqlite://${this.#database}`, ADMIN_TOKEN: ADMIN,
      DELEGATION_RESULT_INBOX_PUSH: "1", BATON_TARGET_ALLOW: "127.0.0.0/8", RATE_LIMIT: "0", ...this.#settings,
    };
    running.add(this);
    this.#process = spawn(process.env.BATON_BINARY, [], { env, stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: this.#process.stdout })) {
      const found = /listening on http:\/\/[^:]+:(\d+)/.exec(line);
      if (found) {
        this.port = Number(found[1]);
        this.#process.stdout.resume();
        return;
      }
    }
    throw new Error("Baton did not start");
  }

  async stop(signal = "SIGTERM") {
    running.delete(this);
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    const late = setTimeout(() => this.#process.kill("SIGKILL"), PATIENCE);
    await ended;
    clearTimeout(late);
  }

  end() {
    return this.stop("SIGKILL");
  }

  /** The next start is on an empty database. */
  forget() {
    this.#database = database();
  }

  /** Asks the API; the JSON of an answer that must be good. */
  async ask(path, body, token = ADMIN, method = body === undefined ? "GET" : "POST") {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const answer = await fetch(this.base + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** A new workspace: `{ id, auth_token, name }`. */
  async workspace(name, { parent, url, ...more } = {}) {
    const made = await this.ask("/workspaces", { name, external: true, parent_id: parent?.id, url, ...more });
    return { ...made, name };
  }

  async delegate(caller, target, task, more = {}) {
    return (await this.ask(`/workspaces/${caller.id}/delegate`, { target_id: target.id, task, ...more })).delegation_id;
  }

  whole(caller, id) {
    return this.ask(`/workspaces/${caller.id}/delegations/${id}`);
  }

  until(caller, id, status) {
    return eventually(`${id} is ${status}`, async () => {
      const whole = await this.whole(caller, id);
      return whole.status === status && whole;
    });
  }
}

/** What agents answer: a message, a task, a refusal. */
export const says = (text) => ({ kind: "message", messageId: "answer", role: "agent", parts: [{ kind: "text", text }] });
export const task = (id, state, text) => ({
  kind: "task", id, contextId: `context-${id}`,
  status: { state, message: text === undefined ? undefined : { kind: "message", messageId: `said-${state}`, role: "agent", parts: [{ kind: "text", text }] } },
});
export const busy = { httpStatus: 503, body: { busy: true, retry_after: 5 } };

/** An agent that answers each method as its script says: `script[method](params)`, which may be a promise. */
export class Agent {
  script;
  requests = [];
  #server;

  static async start(script) {
    const agent = new Agent();
    agent.script = script;
    agent.#server = createServer((request, response) => agent.#answer(request, response));
    running.add(agent);
    agent.#server.listen(0, "127.0.0.1");
    await once(agent.#server, "listening");
    agent.url = `http://127.0.0.1:${agent.#server.address().port}/`;
    return agent;
  }

  async #answer(request, response) {
    let body = "";
    for await (const piece of request) body += piece;
    if (request.method !== "POST") return response.writeHead(404).end();
    const { id, method, params } = JSON.parse(body);
    this.requests.push({ method, params });
    const does = this.script[method];
    const result = does ? await does(params) : null;
    if (result?.httpStatus) return response.writeHead(result.httpStatus).end(JSON.stringify(result.body));
    const said = result ? { result } : { error: { code: -32601, message: "Method not found" } };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ jsonrpc: "2.0", id, ...said }));
  }

  end() {
    running.delete(this);
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** A promise, and what keeps it. */
export function promised() {
  const made = {};
  made.promise = new Promise((resolve) => { made.keep = resolve; });
  return made;
}

/** A line between browser and server that can be cut. */
export class Cable {
  #pairs = new Set();
  #listener;
  isCut = false;

  static async to(baton) {
    const cable = new Cable();
    cable.#listener = createListener((near) => cable.#join(near, baton.port));
    running.add(cable);
    cable.#listener.listen(0, "127.0.0.1");
    await once(cable.#listener, "listening");
    cable.base = `http://127.0.0.1:${cable.#listener.address().port}`;
    return cable;
  }

  #join(near, port) {
    near.on("error", () => {});
    if (this.isCut) return near.resetAndDestroy();
    const far = createConnection(port, "127.0.0.1");
    far.on("error", () => near.destroy());
    const pair = [near, far];
    this.#pairs.add(pair);
    near.on("close", () => { far.destroy(); this.#pairs.delete(pair); });
    far.on("close", () => near.destroy());
    near.pipe(far).pipe(near);
  }

  cut() {
    this.isCut = true;
    for (const [near] of this.#pairs) near.resetAndDestroy();
  }

  mend() {
    this.isCut = false;
  }

  /** From now on nothing passes over what is joined, and nobody is told. */
  freeze() {
    for (const pair of this.#pairs) for (const end of pair) end.unpipe().pause();
  }

  end() {
    running.delete(this);
    this.cut();
    this.#listener.close();
  }
}

let browser = null;

function openBrowser() {
  browser ??= chromium.launch({ executablePath: process.env.BATON_CHROMIUM, args: FLAGS });
  return browser;
}

/** What a browser writes by itself when a request is refused or does not arrive; a check that means it to happen says so. */
const UNREACHABLE = /ERR_CONNECTION_|ERR_EMPTY_RESPONSE|ERR_SOCKET_|WebSocket connection to/;
const REFUSED = /Failed to load resource: the server responded with a status of 4\d\d/;

/**
 * A tab that was never open before, at a base address. What its console complains of is in `faults`: `finish` asks that
 * there be none.
 */
export async function openTab(base, { scheme = "light", width = 1280, height = 800, unreachable = false, refused = false, motion = "reduce" } = {}) {
  const context = await (await openBrowser()).newContext({
    baseURL: base, colorScheme: scheme, viewport: { width, height }, timezoneId: "Europe/Lisbon", locale: "en-GB", reducedMotion: motion,
    permissions: ["clipboard-read", "clipboard-write"],
  });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const faults = [];
  const expected = (text) => (unreachable && UNREACHABLE.test(text)) || (refused && REFUSED.test(text));
  page.on("console", (message) => message.type() === "error" && !expected(message.text()) && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("dialog", (dialog) => { faults.push(`a dialog of the browser: ${dialog.message()}`); dialog.dismiss(); });
  const finish = async () => {
    await context.close();
    if (faults.length > 0) throw new Error(`the console complains: ${faults.join("\n")}`);
  };
  return { page, context, finish };
}

/** Signs in by hand, as people do. */
export async function signIn(page, token = ADMIN, address = "/") {
  await page.goto(address);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await isLive(page);
}

/** Waits until the page follows what happens. */
export const isLive = (page) => page.locator('.connection[data-state="live"]').waitFor();

/** How many live delegations the canvas counts. */
export const liveShown = (page) => page.locator(".legend .number").evaluateAll((numbers) => numbers.reduce((sum, { textContent }) => sum + Number(textContent.replaceAll(",", "")), 0));

/** Goes to a view by its address behind `#`. */
export const show = (page, view) => page.evaluate((hash) => { location.hash = hash; }, view);
