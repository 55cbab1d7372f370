// The inbox of a workspace: what waits, what was taken, and what it hands out.

import assert from "node:assert/strict";
import { describe, it, before, after } from "node:test";
import { Agent, Baton, eventually, openTab, says, show, signIn } from "./rig.mjs";

describe("an inbox", () => {
  let baton, desk, echo, agent;
  before(async () => {
    baton = await Baton.start();
    agent = await Agent.start({ "message/send": ({ message }) => says(`I heard: ${message.parts[0].text}`) });
    desk = await baton.workspace("desk");
    echo = await baton.workspace("echo", { parent: desk, url: agent.url });
  });
  after(async () => {
    agent.end();
    await baton.stop();
  });

  it("shows what waits as it comes, and acknowledges up to a message", async () => {
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page, desk.auth_token);
    await show(page, `/workspaces/${desk.id}`);
    await page.getByText("Nothing waits").waitFor();
    const texts = ["first", "second", "third"];
    for (const text of texts) {
      const id = await baton.delegate(desk, echo, text);
      await baton.until(desk, id, "completed");
    }
    for (const text of texts) await page.locator(".messages").getByText(`I heard: ${text}`).waitFor();
    const second = page.locator(".message").filter({ hasText: "I heard: second" });
    await second.getByRole("button", { name: "Acknowledge up to here" }).click();
    await page.getByText("Acknowledge 2 messages?").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Acknowledge", exact: true }).click();
    const taken = page.getByRole("region", { name: "Acknowledged" });
    await taken.getByText("I heard: first").first().waitFor();
    await taken.getByText("I heard: second").first().waitFor();
    const { messages } = await baton.ask(`/workspaces/${desk.id}/inbox`, undefined, desk.auth_token);
    assert.deepEqual(messages.map(({ request_body: body }) => body.parts[0].text), ["I heard: third"]);
    await tab.finish();
  });

  it("takes nothing from an agent that fetches its work by looking at it", async () => {
    const fetching = await baton.workspace("fetches itself", { parent: desk, delivery_mode: "poll" });
    const id = await baton.delegate(desk, fetching, "please fetch me");
    await baton.until(desk, id, "queued");
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    await show(page, `/workspaces/${fetching.id}`);
    await page.getByText("please fetch me").waitFor();
    assert.equal((await baton.whole(desk, id)).status, "queued");
    await baton.ask(`/workspaces/${fetching.id}/inbox`, undefined, fetching.auth_token);
    await baton.until(desk, id, "received");
    await tab.finish();
  });

  it("says what is missing in a task, and keeps what was written when the server is away", async () => {
    const tab = await openTab(baton.base, { unreachable: true, refused: true });
    const { page } = tab;
    await signIn(page);
    await show(page, `/workspaces/${desk.id}`);
    const composer = page.locator(".compose");
    await composer.getByRole("button", { name: "Delegate", exact: true }).click();
    await composer.getByText("Choose a target.").waitFor();
    await composer.getByRole("combobox", { name: "To" }).fill("echo");
    await page.keyboard.press("Enter");
    await composer.getByRole("button", { name: "Delegate", exact: true }).click();
    await composer.getByText("Describe the task.").waitFor();
    await composer.getByText("More", { exact: true }).click();
    await composer.getByLabel("Priority").fill("101");
    await composer.getByLabel("Task").fill("worth keeping");
    await composer.getByRole("button", { name: "Delegate", exact: true }).click();
    await eventually("the field is named", () => composer.getByLabel("Priority").getAttribute("aria-invalid"));
    await composer.getByLabel("Priority").fill("");
    await baton.stop("SIGKILL");
    await composer.getByRole("button", { name: "Delegate", exact: true }).click();
    await composer.getByText("the server cannot be reached").waitFor();
    await baton.start();
    // Pressed again and again: it begins nothing twice.
    await eventually("it is taken", async () => {
      if (await composer.locator(".followed li").count()) return true;
      await composer.getByRole("button", { name: "Delegate", exact: true }).click();
      return false;
    });
    await composer.getByText("I heard: worth keeping").waitFor();
    assert.equal(agent.requests.filter(({ params }) => params.message.parts[0].text === "worth keeping").length, 1);
    await tab.finish();
  });
});
