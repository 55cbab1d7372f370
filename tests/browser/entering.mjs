// Who may look, and what they see.

import assert from "node:assert/strict";
import { describe, it, before, after } from "node:test";
import { ADMIN, Baton, eventually, isLive, liveShown, openTab, show, signIn } from "./rig.mjs";

describe("signing in", () => {
  let baton, root, child, stranger;
  before(async () => {
    baton = await Baton.start();
    root = await baton.workspace("front desk");
    child = await baton.workspace("archive", { parent: root });
    stranger = await baton.workspace("somebody else");
  });
  after(() => baton.stop());

  it("asks for a token, says what is wrong with one, and keeps it in the tab alone", async () => {
    const tab = await openTab(baton.base, { refused: true });
    const { page } = tab;
    await page.goto("/");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Paste a token first.").waitFor();
    await page.getByLabel("Token").fill("two words and an ü");
    await page.keyboard.press("Enter");
    await page.getByText("no spaces and no special letters").waitFor();
    await page.getByLabel("Token").fill("no-such-token");
    await page.keyboard.press("Enter");
    await page.getByText("does not know this token").waitFor();
    await signIn(page);
    for (const name of [root.name, child.name, stranger.name]) await page.getByRole("button", { name }).waitFor();

    assert.ok(!page.url().includes(ADMIN));
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, document.cookie, history.state]));
    assert.ok(!kept.includes(ADMIN), kept);
    await page.reload();
    await isLive(page);
    const other = await tab.context.newPage();
    await other.goto("/");
    await other.getByLabel("Token").waitFor();

    await page.getByLabel("Signed in as Admin").click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Token").waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await tab.finish();
  });

  it("shows a workspace its kin and its own, and nothing of others", async () => {
    const hidden = await baton.delegate(root, child, "between them");
    const tab = await openTab(baton.base, { refused: true });
    const { page } = tab;
    await signIn(page, stranger.auth_token);
    await page.getByRole("button", { name: stranger.name }).waitFor();
    assert.equal(await page.getByRole("button", { name: root.name }).count(), 0);
    assert.equal(await page.getByRole("link", { name: "Health" }).count(), 0, "the admin's");
    await show(page, "/health");
    await page.getByText("Only the admin sees this").waitFor();
    await show(page, "/delegations");
    await page.getByText("No delegations yet").waitFor();
    await show(page, `/delegations/${root.id}/${hidden}`);
    await page.getByText("There is no delegation").waitFor();
    await tab.finish();
  });

  it("leaves out what kin hand to each other, of which the socket tells, too", async () => {
    const sibling = await baton.workspace("sibling", { parent: root });
    const tab = await openTab(baton.base);
    const { page } = tab;
    await signIn(page, sibling.auth_token);
    await page.locator(".legend").waitFor();
    await baton.delegate(root, child, "not for the sibling");
    await baton.delegate(root, sibling, "for the sibling");
    await page.locator(".news").getByText("sibling").first().waitFor();
    assert.equal(await page.locator(".news").getByText("archive").count(), 0);
    assert.equal(await liveShown(page), 1);
    await tab.finish();
  });

  it("takes a link with a code also into an open tab, and says when its code is spent", async () => {
    const tab = await openTab(baton.base, { refused: true });
    const { page } = tab;
    await signIn(page);
    await show(page, "code=spent-long-ago");
    await page.getByText("This link was used before").waitFor();
    assert.ok(!page.url().includes("spent-long-ago"));
    await page.evaluate(() => sessionStorage.setItem("baton.token", "of-yesterday"));
    await page.reload();
    await page.getByText("does not take this token any more").waitFor();
    await tab.finish();
  });

  it("asks again when the token is taken back", async () => {
    const tab = await openTab(baton.base, { refused: true, unreachable: true });
    const { page } = tab;
    await signIn(page, child.auth_token);
    const { tokens } = await baton.ask(`/workspaces/${child.id}/tokens`);
    for (const one of tokens) await baton.ask(`/workspaces/${child.id}/tokens/${one.id}`, undefined, ADMIN, "DELETE");
    await show(page, "/delegations");
    await page.getByText("does not take this token any more").waitFor();
    await eventually("it is forgotten", () => page.evaluate(() => sessionStorage.length === 0));
    await tab.finish();
  });
});
