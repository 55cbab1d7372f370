// A delegation from the composer to its ending, and each state in between as the page shows it.

import assert from "node:assert/strict";
import { describe, it, before, after } from "node:test";
import { Agent, Baton, busy, eventually, openTab, promised, says, show, signIn, task } from "./rig.mjs";

/** The statuses that the timeline of one delegation tells of, in order. */
const told = (page) => page.locator(".timeline [data-status]").evaluateAll((entries) => entries.map((entry) => entry.dataset.status));
const status = (page) => page.locator(".head").getAttribute("data-status");
const becomes = (page, wanted) => page.locator(`.head[data-status="${wanted}"]`).waitFor();

describe("the life of a delegation", () => {
  let baton, desk;
  before(async () => {
    baton = await Baton.start();
    desk = await baton.workspace("front desk");
  });
  after(() => baton.stop());

  it("is shown state by state, from the composer to the inbox, with its question answered here", async () => {
    const [taken, worked, asked, over] = [promised(), promised(), promised(), promised()];
    let now = task("t1", "working");
    const agent = await Agent.start({
      "message/send": async ({ message }) => {
        if (message.taskId) {
          now = task("t1", "working", "thank you");
          over.promise.then(() => { now = { ...task("t1", "completed"), artifacts: [{ artifactId: "a", parts: [{ kind: "text", text: "Blue it is." }] }] }; });
          return now;
        }
        await taken.promise;
        return task("t1", "submitted");
      },
      "tasks/get": async () => {
        await worked.promise;
        return now;
      },
    });
    const painter = await baton.workspace("painter", { parent: desk, url: agent.url });
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    await show(page, `/workspaces/${desk.id}`);
    const composer = page.locator(".compose");
    await composer.getByRole("combobox", { name: "To" }).fill("paint");
    await page.keyboard.press("Enter");
    await composer.getByLabel("Task").fill("Paint the door");
    await page.keyboard.press("Control+Enter");
    await page.getByRole("link", { name: "Open it" }).click();

    await becomes(page, "dispatched");
    await page.getByText("waits for the target's first word").waitFor();
    taken.keep();
    await becomes(page, "received");
    worked.keep();
    await becomes(page, "in_progress");
    const id = decodeURIComponent(page.url().split("/").at(-1));
    await baton.ask(`/workspaces/${painter.id}/delegations/${id}/heartbeat`, { message: "second coat", percent: 60 });
    await page.locator(".standing").getByText("second coat").waitFor();
    now = task("t1", "input-required", "Which colour?");
    asked.keep();
    await becomes(page, "input_required");
    await page.locator(".question").getByText("Which colour?").waitFor();
    await page.getByRole("button", { name: "Send the answer" }).click();
    await page.getByText("Write an answer first").waitFor();
    await page.getByLabel("Your answer").fill("Blue");
    await page.getByRole("button", { name: "Send the answer" }).click();
    await eventually("it goes on", async () => (await status(page)) !== "input_required");
    over.keep();
    await becomes(page, "completed");
    await page.getByText("Blue it is.").first().waitFor();
    const answers = agent.requests.filter(({ method, params }) => method === "message/send" && params.message.taskId);
    assert.deepEqual(answers.map(({ params }) => params.message.parts[0].text), ["Blue"]);
    const life = await told(page);
    for (const wanted of ["pending", "dispatched", "received", "in_progress", "input_required", "completed"]) assert.ok(life.includes(wanted), `${wanted} in ${life}`);
    assert.equal(life.filter((one) => one === "completed").length, 1, String(life));

    await show(page, `/workspaces/${desk.id}`);
    await page.locator(".messages").getByText("Blue it is.").waitFor();
    await tab.finish();
    agent.end();
  });

  it("says why one waits, and when it is tried again", async () => {
    const agent = await Agent.start({ "message/send": () => busy });
    const clerk = await baton.workspace("busy clerk", { parent: desk, url: agent.url });
    const nowhere = await baton.workspace("nowhere yet", { parent: desk });
    const fetching = await baton.workspace("fetches itself", { parent: desk, delivery_mode: "poll" });
    await baton.delegate(desk, clerk, "for the clerk");
    await baton.delegate(desk, nowhere, "for nowhere");
    await baton.delegate(desk, fetching, "to be fetched");
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    await show(page, "/delegations?status=in_flight");
    const line = (text) => page.getByRole("row").filter({ hasText: text });
    await line("for the clerk").getByText("says that it is busy").waitFor();
    await line("for the clerk").getByText(/asked again (in \d+ s|now)/).waitFor();
    await line("for nowhere").getByText("has not said where it listens").waitFor();
    await line("to be fetched").getByText("lies in the target's inbox").waitFor();
    // It goes on as soon as what it waits for is there.
    const listener = await Agent.start({ "message/send": () => says("here I am") });
    await baton.ask("/registry/register", { id: nowhere.id, url: listener.url, agent_card: { name: "nowhere yet" } }, nowhere.auth_token);
    await line("for nowhere").getByText("Completed").waitFor();
    await line("for nowhere").getByText("here I am").waitFor();
    await tab.finish();
    agent.end();
    listener.end();
  });

  it("warns of silence, and takes the warning back", async () => {
    const quiet = await Baton.start({ DELEGATION_STUCK_THRESHOLD_S: "1", DELEGATION_SWEEPER_INTERVAL_S: "1" });
    const held = promised();
    const agent = await Agent.start({ "message/send": async () => { await held.promise; return says("woken"); } });
    const caller = await quiet.workspace("caller");
    const sleeper = await quiet.workspace("sleeper", { parent: caller, url: agent.url });
    const id = await quiet.delegate(caller, sleeper, "wake up");
    const tab = await openTab(quiet.base);
    const { page } = tab;
    await signIn(page);
    await show(page, `/delegations/${caller.id}/${id}`);
    await becomes(page, "stuck");
    await page.getByText("anything the target says brings it back").waitFor();
    await quiet.ask(`/workspaces/${sleeper.id}/delegations/${id}/heartbeat`, { message: "yawning" });
    await eventually("it is back, if only for a second", async () => (await told(page)).includes("in_progress"));
    held.keep();
    await becomes(page, "completed");
    await tab.finish();
    agent.end();
    await quiet.stop();
  });
});
