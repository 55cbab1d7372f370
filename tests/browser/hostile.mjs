// Words of others are words, whatever they are made of.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Agent, Baton, openTab, promised, says, show, signIn, task } from "./rig.mjs";

const SPEAKING = [
  `<img src=x onerror="window.hit=1">`, `<script>window.hit=2</script>`, `"><svg onload=window.hit=3>`, `'-window.hit=4-'`, `javascript:window.hit=5`,
  `\${window.hit=6}`, `{{constructor.constructor('window.hit=7')()}}`, `</textarea></title><iframe srcdoc="<script>parent.hit=8</script>">`, `[link](javascript:window.hit=9)`,
  `\u202Eesrever\u2066 hidden`, `a\u0301\u0316\u{1F468}\u200D\u{1F469}\u200D\u{1F467}`, `__proto__`, `x`.repeat(3000),
].join("\n");

describe("hostile text", () => {
  it("stays text in every view, breaks none, and widens no page", async () => {
    const baton = await Baton.start();
    // The server takes no brackets that close in a name.
    const plain = (text) => text.replaceAll(/[\n{}[\]|>*&!]/g, " ");
    const name = plain(`<img src=x onerror="window.hit=10"> <b>bold</b> ${"w".repeat(120)}`);
    const asking = promised();
    const agent = await Agent.start({
      "message/send": ({ message }) => {
        const [{ text }] = message.parts;
        if (text.startsWith("ask")) return task("t", "input-required", SPEAKING);
        if (text.startsWith("fail")) return task("f", "failed", SPEAKING);
        if (text.startsWith("work")) { asking.keep(); return task("w", "working", SPEAKING); }
        return says(SPEAKING);
      },
      "tasks/get": ({ id }) => task(id, id === "t" ? "input-required" : "working", SPEAKING),
    });
    const caller = await baton.workspace(name, { role: plain(SPEAKING.slice(0, 200)) });
    const target = await baton.workspace(`${name} 2`, { parent: caller, url: agent.url });
    const ids = {};
    for (const [kind, end] of [["ask", "input_required"], ["fail", "failed"], ["answer", "completed"], ["work", "in_progress"]]) {
      ids[kind] = await baton.delegate(caller, target, `${kind} ${SPEAKING}`);
      await baton.until(caller, ids[kind], end);
    }
    await baton.ask(`/workspaces/${target.id}/delegations/${ids.work}/heartbeat`, { message: SPEAKING.slice(0, 400), percent: 5 });
    await baton.ask("/registry/heartbeat", { workspace_id: target.id, active_tasks: 1, current_task: SPEAKING.slice(0, 300) }, target.auth_token);

    for (const width of [1280, 390]) {
      const tab = await openTab(baton.base, { width });
      const { page } = tab;
      await signIn(page);
      const seen = async (text) => {
        await page.getByText(text, { exact: false }).first().waitFor();
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `the page is ${wide} px too wide at ${page.url()}`);
      };
      if (width > 720) await seen("<b bold</b");
      for (const [kind, id] of Object.entries(ids)) {
        await show(page, `/delegations/${caller.id}/${id}`);
        await page.locator(".head").waitFor();
        await seen(`${kind} <img src=x onerror="window.hit=1">`);
        if (kind !== "work") await seen("</textarea></title><iframe");
      }
      await show(page, "/delegations");
      await seen("fail <img src=x");
      await show(page, `/delegations?q=${encodeURIComponent("<script>window.hit=2")}`);
      await seen("Looked through");
      await show(page, "/workspaces");
      await seen("<b bold</b");
      await show(page, `/workspaces/${caller.id}`);
      await seen("<script>window.hit=2</script>");
      await show(page, `/workspaces/${encodeURIComponent("<img src=x onerror=window.hit=11>")}`);
      await seen("No such workspace");
      for (const broken of ["/workspaces/%E0%A4", "/workspaces/%"]) {
        await show(page, broken);
        await seen("No such workspace");
        await show(page, "/workspaces");
        await page.getByRole("heading", { name: "Inboxes" }).waitFor();
      }
      await show(page, "/health");
      await page.getByRole("heading", { name: "Health" }).waitFor();
      assert.equal(await page.evaluate(() => window.hit), undefined);
      assert.equal(await page.locator('img[src="x"], iframe, svg[onload], main script').count(), 0);
      assert.equal(await page.locator('a[href^="javascript:"]').count(), 0);
      await tab.finish();
    }
    agent.end();
    await baton.stop();
  });

  it("cannot be anything else: nothing inline runs, and nothing of elsewhere is loaded", async () => {
    const baton = await Baton.start();
    const tab = await openTab(baton.base);
    const { page } = tab;
    const answer = await page.goto("/");
    const policy = answer.headers()["content-security-policy"];
    assert.ok(policy.includes("default-src 'none'") && policy.includes("script-src 'self'") && !policy.includes("unsafe"), policy);
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).host));
    await signIn(page);
    assert.deepEqual([...new Set(asked)], [new URL(baton.base).host]);
    await tab.context.close();
    const other = await openTab(baton.base);
    await other.page.goto("/");
    const refused = other.page.waitForEvent("console", (message) => message.text().includes("Content Security Policy"));
    await other.page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.hit = 12";
      document.body.append(script);
    });
    await refused;
    assert.equal(await other.page.evaluate(() => window.hit), undefined);
    await other.context.close();
    await baton.stop();
  });
});
