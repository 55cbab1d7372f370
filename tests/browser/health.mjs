// How the server is: its last hour, and what stands before its targets.

import { describe, it } from "node:test";
import { Agent, Baton, busy, openTab, says, show, signIn } from "./rig.mjs";

describe("health", () => {
  it("shows the last hour from the server's own history, the lines before targets, and the rules", async () => {
    const baton = await Baton.start({ BATON_HISTORY_STEP_MS: "200" });
    const agent = await Agent.start({ "message/send": ({ message }) => (message.parts[0].text === "no" ? busy : says("yes")) });
    const caller = await baton.workspace("caller");
    const target = await baton.workspace("the target", { parent: caller, url: agent.url });
    const failing = await baton.workspace("away", { parent: caller, url: "http://127.0.0.1:9/" });
    for (let count = 0; count < 20; count += 1) await baton.delegate(caller, target, "yes");
    await baton.delegate(caller, target, "no");
    await baton.delegate(caller, failing, "nobody is there");
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page);
    await show(page, "/health");
    await page.getByRole("heading", { name: "Throughput" }).waitFor();
    await page.locator(".chart canvas").first().waitFor();
    await page.getByText("0 violations").waitFor();
    await page.getByRole("row").filter({ hasText: "the target" }).getByText("says that it is busy").waitFor();
    await page.getByRole("row").filter({ hasText: "away" }).getByRole("button", { name: "Try now" }).waitFor();
    await page.getByText("this one").waitFor();
    await page.getByRole("button", { name: "Check all" }).click();
    await page.getByRole("dialog").getByText("0 violations").waitFor();
    await page.keyboard.press("Escape");
    await tab.finish();
    agent.end();
    await baton.stop();
  });
});
