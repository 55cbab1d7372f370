// How the page bears a crowd: 500 workspaces, 5,000 live delegations, 500 events a second. Prints for each stretch the longest
// task of the page's own thread and what it holds in memory after the garbage is collected; and fails if a task
// took longer than 100 ms, or if memory grew by a tenth from the second stretch on.
//
// On Linux the server and the load step back where they and the browser want the same processor: people's browsers are elsewhere.

import { existsSync, readdirSync } from "node:fs";
import { setPriority } from "node:os";
import { Baton, endAll, eventually, liveShown, openTab, show, signIn } from "./rig.mjs";

const WORKSPACES = 500;
const ORGANISATIONS = 20;
const LIVE = 5_000;
const EVENTS = 500;
const SECONDS = Number(process.env.BATON_ENDURANCE_S ?? 60);
const STRETCH = Math.min(60, SECONDS / 3);
const LONGEST = 100;

const seconds = (count) => new Promise((resolve) => setTimeout(resolve, count * 1000));

/** Organisations, each a root with a row of teams below, each with some agents. None has an address: what it is given waits. */
async function populate(baton) {
  const pairs = [];
  for (let each = 0; each < ORGANISATIONS; each += 1) {
    const root = await baton.workspace(`organisation ${each}`);
    const teams = [];
    for (let count = 1; count < WORKSPACES / ORGANISATIONS; count += 1) {
      const parent = count <= 4 ? root : teams[count % 4];
      const made = await baton.workspace(`agent ${each}.${count}`, { parent, role: "works" });
      if (count <= 4) teams.push(made);
      pairs.push([parent, made]);
    }
  }
  return pairs;
}

/** Keeps delegations coming and going at a rate, the oldest first, until told to stop. */
class Crowd {
  #baton;
  #pairs;
  #live = [];
  #going = false;
  #next = 0;
  moved = 0;

  constructor(baton, pairs) {
    this.#baton = baton;
    this.#pairs = pairs;
  }

  async fill(count) {
    const lane = async () => { while (this.#live.length < count) await this.#begin(); };
    await Promise.all(Array.from({ length: 16 }, lane));
  }

  async #begin() {
    const [caller, target] = this.#pairs[(this.#next += 1) % this.#pairs.length];
    this.#live.push([caller, await this.#baton.delegate(caller, target, `task ${this.#next}`)]);
  }

  async #turn() {
    const [caller, id] = this.#live.shift();
    await Promise.all([this.#baton.ask(`/workspaces/${caller.id}/delegations/${id}/update`, { status: "completed", response_preview: "done" }), this.#begin()]);
    this.moved += 1;
  }

  /** So many turns a second, whatever one takes. */
  run(rate) {
    this.#going = true;
    const begun = Date.now();
    let turns = 0;
    let open = 0;
    const push = () => {
      while (this.#going && turns < ((Date.now() - begun) / 1000) * rate && open < 64) {
        turns += 1;
        open += 1;
        this.#turn().catch((error) => { console.error(error.message); process.exitCode = 1; }).finally(() => { open -= 1; });
      }
      if (this.#going) setTimeout(push, 5);
    };
    push();
  }

  stop() {
    this.#going = false;
  }
}

/** What the page's thread does is noted by itself. */
function watch() {
  window.watched = { longest: 0, over: 0, events: 0 };
  window.WebSocket = class extends WebSocket {
    constructor(...how) {
      super(...how);
      this.addEventListener("message", () => { window.watched.events += 1; });
    }
  };
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      window.watched.longest = Math.max(window.watched.longest, duration);
      if (duration > 100) window.watched.over += 1;
    }
  }).observe({ type: "longtask" });
}

/** Has every thread of a process step back; those that it begins later do the same. */
function stepBack(pid) {
  const threads = `/proc/${pid}/task`;
  if (existsSync(threads)) for (const thread of readdirSync(threads)) setPriority(Number(thread), 10);
}

async function memory(session) {
  await session.send("HeapProfiler.collectGarbage");
  const { metrics } = await session.send("Performance.getMetrics");
  const of = (name) => metrics.find((metric) => metric.name === name).value;
  return { heap: of("JSHeapUsedSize") / 1e6, nodes: of("Nodes"), listeners: of("JSEventListeners") };
}

const baton = await Baton.start({ BATON_MAX_LIVE: "100000" });
const crowd = new Crowd(baton, await populate(baton));
await crowd.fill(LIVE);
const tab = await openTab(baton.base, { motion: "no-preference", width: 1440, height: 900 });
const { page } = tab;
await page.addInitScript(watch);
await signIn(page);
await page.locator(".legend").waitFor();
const session = await page.context().newCDPSession(page);
await session.send("Performance.enable");
for (const pid of [baton.pid, process.pid]) stepBack(pid);
crowd.run(EVENTS / 3);
await seconds(5);

const views = (process.env.BATON_ENDURANCE_VIEWS ?? "/").split(" ");
const rows = [];
for (let at = 0; at < SECONDS; at += STRETCH) {
  const view = views[rows.length % views.length];
  await show(page, view);
  await page.evaluate(() => Object.assign(window.watched, { longest: 0, over: 0, events: 0 }));
  const begun = Date.now();
  await seconds(STRETCH);
  const { longest, over, events: told } = await page.evaluate(() => window.watched);
  const events = told / ((Date.now() - begun) / 1000);
  const held = await memory(session);
  rows.push({ view, longest, ...held });
  console.log(`${String(Math.round(at + STRETCH)).padStart(5)} s  ${view.padEnd(14)} ${Math.round(events)} events/s  longest task ${longest.toFixed(0)} ms, ${over} over ${LONGEST}  heap ${held.heap.toFixed(1)} MB, ${held.nodes} nodes, ${held.listeners} listeners`);
}
crowd.stop();
await seconds(2);
await eventually("the page agrees with the server", async () => {
  const shown = await liveShown(page);
  const { live_total: live } = await baton.ask("/canvas");
  return views.at((rows.length - 1) % views.length) !== "/" || shown === live;
});
const longest = Math.max(...rows.map((row) => row.longest));
const [second, last] = [rows[1] ?? rows[0], rows.at(-1)];
if (longest > LONGEST) { console.log(`FAILED: a task of ${longest.toFixed(0)} ms`); process.exitCode = 1; }
if (last.heap > second.heap * 1.1 + 1) { console.log(`FAILED: ${second.heap.toFixed(1)} MB became ${last.heap.toFixed(1)}`); process.exitCode = 1; }
await tab.finish();
await endAll();
await baton.stop();
