// How each view looks, light and dark, wide and narrow; and whether it can be used without seeing it or without a pointer.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describe, it, before, after } from "node:test";
import { eventually, openTab, show, signIn } from "./rig.mjs";
import { open } from "./organisation.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const folder = process.env.BATON_SCREENSHOTS;

/** What axe calls serious or critical on what is shown, in words. */
async function complaints(page) {
  // The policy of the page lets nothing in that is put into it; a debugger may.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: axe });
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  await session.detach();
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return grave.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
}

const tooWide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

describe("looks", () => {
  let organisation;
  before(async () => { organisation = await open(); });
  after(() => organisation.close());

  const views = [
    ["canvas", async () => "/", async (page, { stir }) => {
      await page.locator(".legend").waitFor();
      await stir();
      await page.locator(".news li").nth(5).waitFor({ state: "attached" });
    }],
    ["canvas-chosen", async () => "/", async (page, { editor }) => {
      await page.locator("canvas").first().focus();
      if (await page.locator(".list-toggle").isVisible()) await page.locator(".list-toggle").click();
      await page.locator(".side.list").getByRole("button", { name: editor.name }).click();
      await page.locator(".inspector .under a").first().waitFor();
    }],
    ["delegations", async () => "/delegations", async (page) => page.locator("tbody tr").first().waitFor()],
    ["bulk", async () => "/delegations?status=in_flight", async (page) => {
      await page.locator("tbody tr").first().waitFor();
      await page.getByRole("button", { name: "Cancel all that match…" }).click();
      await page.getByText("will end as cancelled").waitFor();
    }],
    ["delegation-asking", async ({ asking }) => asking, async (page) => page.getByLabel("Your answer").waitFor()],
    ["delegation-ended", async ({ ended }) => ended, async (page) => page.locator('.head[data-status="completed"]').waitFor()],
    ["workspaces", async () => "/workspaces", async (page) => page.locator("tbody tr").first().waitFor()],
    ["inbox", async ({ desk }) => `/workspaces/${desk.id}`, async (page) => page.locator(".message").first().waitFor()],
    ["health", async () => "/health", async (page) => page.locator(".chart canvas").first().waitFor()],
  ];

  for (const scheme of ["light", "dark"]) {
    for (const [shape, size] of [["wide", { width: 1280, height: 800 }], ["narrow", { width: 390, height: 844 }]]) {
      it(`pleases ${scheme} and ${shape}`, async () => {
        const tab = await openTab(organisation.baton.base, { scheme, ...size });
        const { page } = tab;
        const found = [];
        await page.goto("/");
        await page.getByLabel("Token").waitFor();
        const look = async (name) => {
          found.push(...(await complaints(page)).map((text) => `${name}: ${text}`));
          const wide = await tooWide(page);
          if (wide > 0) found.push(`${name}: ${wide} px too wide`);
          if (!folder) return;
          mkdirSync(folder, { recursive: true });
          await page.screenshot({ path: join(folder, `${name}-${scheme}-${shape}.png`), fullPage: !name.startsWith("canvas") && name !== "bulk" });
        };
        await look("sign-in");
        await signIn(page);
        for (const [name, place, reach] of views) {
          await show(page, await place(organisation));
          await reach(page, organisation);
          await look(name);
          await page.keyboard.press("Escape");
        }
        assert.deepEqual(found, []);
        await tab.finish();
      });
    }
  }

  it("has room on 320 px, as a page does that is magnified fourfold", async () => {
    const tab = await openTab(organisation.baton.base, { width: 320, height: 640 });
    const { page } = tab;
    const found = [];
    await signIn(page);
    for (const [name, place, reach] of views) {
      await show(page, await place(organisation));
      await reach(page, organisation);
      const wide = await tooWide(page);
      if (wide > 0) found.push(`${name}: ${wide} px too wide`);
      await page.keyboard.press("Escape");
    }
    assert.deepEqual(found, []);
    await tab.finish();
  });

  it("is reached and used by keyboard alone", async () => {
    const tab = await openTab(organisation.baton.base);
    const { page } = tab;
    await page.goto("/");
    await page.getByLabel("Token").waitFor();
    await page.keyboard.type("admin-token-of-the-check");
    await page.keyboard.press("Enter");
    await page.locator('.connection[data-state="live"]').waitFor();
    await page.keyboard.press("?");
    await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await page.getByRole("heading", { name: "Delegations" }).waitFor();
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.id), "search");
    await page.keyboard.type(organisation.phrase);
    await page.getByText("Looked through").waitFor();
    await page.locator("tbody a").first().focus();
    await page.keyboard.press("Enter");
    await page.locator(".head").waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("c");
    await page.locator("canvas").first().focus();
    const reached = async (before) => {
      await page.keyboard.press("ArrowRight");
      return eventually("another workspace", async () => {
        const name = await page.locator(".inspector h2").textContent().catch(() => null);
        return name !== before && name;
      });
    };
    const first = await reached(null);
    await reached(first);
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.localName), "h2");
    await page.keyboard.press("Escape");
    await page.locator(".inspector").waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement.localName), "canvas");

    const { name } = organisation.editor;
    await page.locator(".side.list").getByRole("button", { name }).focus();
    await page.keyboard.press("Enter");
    await page.locator(".inspector").getByRole("button", { name: "Delegate…" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.locator(".inspector").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".inspector").waitFor({ state: "detached" });
    assert.ok((await page.evaluate(() => document.activeElement.textContent)).includes(name));
    await page.getByRole("link", { name: "Inboxes" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Inboxes" }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.localName), "h1");
    await tab.finish();
  });
});
