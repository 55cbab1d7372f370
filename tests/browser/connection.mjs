// The page when its line to the server is cut, and when the server is another one.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Agent, Baton, Cable, PATIENCE, eventually, liveShown, openTab, says, show, signIn } from "./rig.mjs";

/** Every place that sockets of the page brought, and what it is of, in the order of coming. */
function overhear(page) {
  const heard = [];
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => {
    if (payload === "pong") return;
    const { seq, event, payload: of } = JSON.parse(payload);
    if (seq !== undefined && event.startsWith("DELEGATION_")) heard.push({ seq, event, id: of.delegation_id });
  }));
  return heard;
}

/** What the server recorded of a caller since a place, as it tells somebody who was never cut off. */
async function recorded(baton, caller, after, ids) {
  const found = [];
  const open = new Set(ids);
  const headers = { authorization: `Bearer ${caller.auth_token}`, "last-event-id": String(after) };
  const { body } = await fetch(`${baton.base}/workspaces/${caller.id}/events/stream`, { headers, signal: AbortSignal.timeout(PATIENCE) });
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    const frames = text.split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const members = Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/s)));
      const { type: event, data } = JSON.parse(members.data ?? "{}");
      if (!event?.startsWith("DELEGATION_")) continue;
      found.push({ seq: Number(members.id), event, id: data.delegation_id });
      if (ENDINGS.includes(event)) open.delete(data.delegation_id);
    }
    if (open.size === 0) return found;
  }
  throw new Error("the stream ended early");
}

const ENDINGS = ["DELEGATION_COMPLETE", "DELEGATION_FAILED", "DELEGATION_CANCELLED"];

const is = (page, state) => page.locator(`.connection[data-state="${state}"]`).waitFor();

describe("the connection", () => {
  it("is lost and regained without a gap or a duplicate, however often", async () => {
    const baton = await Baton.start();
    const agent = await Agent.start({ "message/send": () => says("done") });
    const caller = await baton.workspace("caller");
    const target = await baton.workspace("target", { parent: caller, url: agent.url });
    const nowhere = await baton.workspace("nowhere", { parent: caller });
    const cable = await Cable.to(baton);
    const tab = await openTab(cable.base, { unreachable: true });
    const { page } = tab;
    const heard = overhear(page);
    const { position } = await baton.ask("/session");
    await signIn(page);
    const ids = [];
    const some = async (count) => { for (let each = 0; each < count; each += 1) ids.push(await baton.delegate(caller, target, `task ${ids.length}`)); };
    for (let round = 0; round < 3; round += 1) {
      await some(20);
      cable.cut();
      await some(20);
      await is(page, "lost");
      await page.getByText("Connection lost").waitFor();
      cable.mend();
      await is(page, "live");
    }
    await some(5);
    await baton.delegate(caller, nowhere, "one that stays");
    const all = await recorded(baton, caller, position, ids);
    await eventually("the page heard of it", () => heard.some(({ seq }) => seq === all.at(-1).seq));
    const places = heard.filter(({ id }) => ids.includes(id)).map(({ seq }) => seq);
    assert.deepEqual(places, [...places].sort((one, other) => one - other), "in order, over all sockets");
    assert.equal(new Set(places).size, places.length, "nothing twice");
    const wanted = all.filter(({ id }) => ids.includes(id)).map(({ seq }) => seq);
    assert.deepEqual(places, wanted, "nothing missing");
    await eventually("one is live", async () => (await liveShown(page)) === 1);
    await tab.finish();
    cable.end();
    agent.end();
    await baton.stop();
  });

  it("goes on when the server is killed and started again beneath the page", async () => {
    const baton = await Baton.start();
    const caller = await baton.workspace("caller");
    const nowhere = await baton.workspace("nowhere", { parent: caller });
    const ids = [];
    for (let count = 0; count < 5; count += 1) ids.push(await baton.delegate(caller, nowhere, `task ${count}`));
    const tab = await openTab(baton.base, { unreachable: true });
    const { page } = tab;
    await signIn(page);
    await eventually("five are live", async () => (await liveShown(page)) === 5);
    await baton.stop("SIGKILL");
    await is(page, "lost");
    await baton.start();
    await baton.ask(`/workspaces/${caller.id}/delegations/${ids[0]}/cancel`, {});
    await baton.delegate(caller, nowhere, "after the restart");
    await baton.delegate(caller, nowhere, "after the restart, too");
    await is(page, "live");
    await eventually("six are live", async () => (await liveShown(page)) === 6);
    await show(page, "/delegations");
    await page.getByText("after the restart, too").first().waitFor();
    await eventually("all are listed", async () => (await page.locator("tbody tr").count()) === 7);
    await tab.finish();
    await baton.stop();
  });

  it("notices a line that died without a word", async () => {
    const baton = await Baton.start();
    const caller = await baton.workspace("caller");
    const nowhere = await baton.workspace("nowhere", { parent: caller });
    const cable = await Cable.to(baton);
    const tab = await openTab(cable.base, { unreachable: true });
    const { page } = tab;
    await signIn(page);
    await page.locator(".legend").waitFor();
    cable.freeze();
    await baton.delegate(caller, nowhere, "unheard");
    await page.evaluate(() => dispatchEvent(new Event("online")));
    await is(page, "lost");
    await is(page, "live");
    await eventually("it is known now", async () => (await liveShown(page)) === 1);
    await tab.finish();
    cable.end();
    await baton.stop();
  });

  it("forgets what it showed when there is another database beneath it", async () => {
    const baton = await Baton.start();
    const caller = await baton.workspace("of before");
    const nowhere = await baton.workspace("nowhere", { parent: caller });
    for (let count = 0; count < 5; count += 1) await baton.delegate(caller, nowhere, `task ${count}`);
    const tab = await openTab(baton.base, { unreachable: true });
    const { page } = tab;
    await signIn(page);
    await page.getByRole("button", { name: "of before" }).waitFor();
    await baton.stop("SIGKILL");
    baton.forget();
    await baton.start();
    await baton.workspace("of now");
    await page.getByRole("button", { name: "of now" }).waitFor();
    assert.equal(await page.getByRole("button", { name: "of before" }).count(), 0);
    assert.equal(await liveShown(page), 0);
    await tab.finish();
    await baton.stop();
  });

  it("opens one line, however often it is told to hurry", async () => {
    const baton = await Baton.start();
    const tab = await openTab(baton.base, { unreachable: true });
    const { page } = tab;
    const open = new Set();
    let pongs = 0;
    page.on("websocket", (socket) => {
      open.add(socket);
      socket.on("framereceived", ({ payload }) => { pongs += payload === "pong"; });
      socket.on("close", () => open.delete(socket));
    });
    await signIn(page);
    await baton.stop("SIGKILL");
    await is(page, "lost");
    await page.route("**/session", async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      await route.continue();
    });
    await baton.start();
    for (let count = 0; count < 5; count += 1) await page.evaluate(() => { dispatchEvent(new Event("online")); document.dispatchEvent(new Event("visibilitychange")); });
    await is(page, "live");
    await eventually("one is open", () => open.size === 1);
    await page.evaluate(() => dispatchEvent(new Event("online")));
    await eventually("the server says that it is there", () => pongs > 0);
    await page.waitForTimeout(1_500);
    assert.equal(open.size, 1);
    await tab.finish();
    await baton.stop();
  });
});
