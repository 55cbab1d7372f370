// What an operator does about delegations: one, and many at once.

import assert from "node:assert/strict";
import { describe, it, before, after } from "node:test";
import { Agent, Baton, eventually, openTab, promised, says, show, signIn, task } from "./rig.mjs";

describe("steering", () => {
  let baton, desk, worker, asker, nowhere, agent, asking;
  before(async () => {
    baton = await Baton.start();
    desk = await baton.workspace("desk");
    agent = await Agent.start({
      "message/send": ({ message }) => (message.parts[0].text.startsWith("long") ? task(`task-${message.messageId}`, "working") : says("done")),
      "tasks/get": ({ id }) => task(id, "working"),
      "tasks/cancel": ({ id }) => task(id, "canceled"),
    });
    worker = await baton.workspace("worker", { parent: desk, url: agent.url });
    asking = await Agent.start({
      "message/send": ({ message: { messageId } }) => task(`task-${messageId}`, "input-required", "Which colour?"),
      "tasks/get": ({ id }) => task(id, "input-required", "Which colour?"),
      "tasks/cancel": ({ id }) => task(id, "canceled"),
    });
    asker = await baton.workspace("asker", { parent: desk, url: asking.url });
    nowhere = await baton.workspace("nowhere", { parent: desk });
  });
  after(async () => {
    agent.end();
    asking.end();
    await baton.stop();
  });

  it("cancels one with a reason, tells the target, and begins it again", async () => {
    const id = await baton.delegate(desk, worker, "long work");
    await baton.until(desk, id, "in_progress");
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page, desk.auth_token);
    await show(page, `/delegations/${desk.id}/${id}`);
    await page.getByRole("button", { name: "Cancel…" }).click();
    await page.getByLabel("Reason (optional)").fill("not needed <b>any</b> more");
    await page.getByRole("button", { name: "Cancel the delegation" }).click();
    await page.locator('.head[data-status="cancelled"]').waitFor();
    await page.getByText("not needed <b>any</b> more").first().waitFor();
    await eventually("the target is told", () => agent.requests.some(({ method, params }) => method === "tasks/cancel" && params.id === `task-${id}`));

    await page.getByRole("button", { name: "Retry" }).click();
    await eventually("another one is shown", () => !page.url().includes(id));
    await page.locator('.head[data-status="in_progress"]').waitFor();
    const again = decodeURIComponent(page.url().split("/").at(-1));
    assert.equal((await baton.whole(desk, again)).retry_of, id);
    await page.locator(`a[href$="${id}"]`).first().click();
    await page.locator('.head[data-status="cancelled"]').waitFor();
    await page.locator(`a[href$="${again}"]`).first().waitFor();
    await baton.ask(`/workspaces/${desk.id}/delegations/${again}/cancel`, {});
    await tab.finish();
  });

  it("cancels and retries many, having said how many, and touches nothing accepted since", async () => {
    for (let count = 0; count < 60; count += 1) await baton.delegate(desk, nowhere, `bulk ${count}`);
    await baton.delegate(desk, nowhere, "spared");
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    await show(page, "/delegations?status=in_flight&q=bulk");
    await page.getByText("Looked through", { exact: false }).waitFor();
    await page.getByRole("button", { name: "Cancel all that match…" }).click();
    await page.getByText("60 in flight will end as cancelled").waitFor();
    const late = await baton.delegate(desk, nowhere, "bulk, but later");
    await page.getByLabel("Reason (optional)").fill("the whole lot");
    await page.getByRole("button", { name: "Cancel 60" }).click();
    await page.getByText("60 cancelled.").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
    const stats = await baton.ask("/admin/delegations?status=cancelled&limit=500");
    assert.equal((stats.delegations ?? stats).filter((one) => JSON.stringify(one).includes("the whole lot")).length, 60);
    assert.equal((await baton.whole(desk, late)).status, "queued");

    await show(page, "/delegations?status=cancelled&q=bulk");
    const first = page.getByRole("row").filter({ hasText: "bulk 59" });
    await first.getByRole("checkbox").check();
    await page.getByRole("row").filter({ hasText: "bulk 58" }).getByRole("checkbox").check();
    await page.getByRole("button", { name: "Retry…" }).click();
    await page.getByRole("button", { name: "Retry 2" }).click();
    await page.getByText("2 retried.").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
    await first.getByRole("checkbox").check();
    await page.getByRole("button", { name: "Retry…" }).click();
    await page.getByText("there is nothing to retry").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
    const { delegations } = await baton.ask("/canvas/delegations?status=in_flight&q=bulk");
    assert.equal(delegations.filter((line) => line.retry_of).length, 2, "once each");
    await tab.finish();
  });

  it("only stops a run of many by Escape, and tells what came of it", async () => {
    for (let count = 0; count < 3; count += 1) await baton.delegate(desk, nowhere, `halted ${count}`);
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    await show(page, "/delegations?status=in_flight&q=halted");
    await page.getByText("Looked through", { exact: false }).waitFor();
    const held = promised();
    await page.route("**/canvas/delegations/cancel", async (route) => {
      if (!route.request().postDataJSON().dry_run) await held.promise;
      await route.continue();
    });
    await page.getByRole("button", { name: "Cancel all that match…" }).click();
    await page.getByRole("button", { name: "Cancel 3" }).click();
    await page.getByText("Cancelling: 0 of 3").waitFor();
    await page.mouse.click(5, 5);
    for (let times = 0; times < 2; times += 1) await page.keyboard.press("Escape");
    await page.getByText("Stopping after this batch").waitFor();
    held.keep();
    await page.getByText("3 cancelled.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await tab.finish();
  });

  it("keeps a written answer when the question changes, and asks before it is sent", async () => {
    const id = await baton.delegate(desk, asker, "whatever");
    await baton.until(desk, id, "input_required");
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    // It is looked at again only now and then, where no event tells of it.
    await page.clock.install();
    await show(page, `/delegations/${desk.id}/${id}`);
    await page.getByLabel("Your answer").fill("Blue");
    await page.route(`**/canvas/delegations/${desk.id}/${id}`, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...await response.json(), question: "Which size?" } });
    });
    await page.clock.fastForward(16_000);
    await page.locator(".question").getByText("Which size?").waitFor();
    await page.getByText("The question changed while you wrote").waitFor();
    await page.getByRole("button", { name: "Send the answer" }).click();
    await page.getByText("Press again").waitFor();
    assert.equal(await page.getByLabel("Your answer").inputValue(), "Blue");
    const sent = page.waitForRequest("**/input");
    await page.getByRole("button", { name: "Send the answer" }).click();
    assert.deepEqual((await sent).postDataJSON(), { text: "Blue" });
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await baton.ask(`/workspaces/${desk.id}/delegations/${id}/cancel`, {});
    await tab.finish();
  });

  it("pages through hundreds, finds by text and by id, and tells of newer ones", async () => {
    const ids = [];
    for (let count = 0; count < 120; count += 1) ids.push(await baton.delegate(desk, nowhere, `page ${count}`));
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    await show(page, `/delegations?workspace_id=${nowhere.id}&q=page`);
    await page.getByText("page 119").waitFor();
    await eventually("the last page", async () => {
      if ((await page.getByText("That is all").count()) > 0) return true;
      const more = page.getByRole("button", { name: /^(Older|Look further back)$/ });
      if ((await more.count()) > 0) await more.click();
      return false;
    });
    const shown = await page.locator("tbody .what .mono").evaluateAll((cells) => cells.map((cell) => cell.title));
    assert.deepEqual(shown, [...ids].reverse());
    await page.locator("#search").fill(ids[3]);
    await eventually("only it", async () => (await page.locator("tbody tr").count()) === 1);
    assert.equal(await page.locator("tbody .what .mono").getAttribute("title"), ids[3]);
    await page.locator("#search").fill("no such words");
    await page.getByText("No delegation matches").waitFor();
    await page.getByRole("link", { name: "Show all" }).click();
    await page.getByText("page 119").waitFor();
    await baton.delegate(desk, nowhere, "a newer one");
    await page.getByRole("button", { name: /1 newer/ }).click();
    await page.getByText("a newer one").waitFor();
    await tab.finish();
  });
});
