// The grid page in a browser: from the first sight of a node to its end. nodes.mjs says what it needs.
//
// The tests run in this order, each on what the one before left.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, picture } from "./browser.mjs";
import { json, model, own, peer, question, send, text, until } from "./nodes.mjs";

const HOSTILE = `<img src=x onerror="window.hit=1">`;
/// As long as its pattern wants, and so wide that whoever does not read it holds it.
const endless = {
  stream: true,
  guided_regex: "[ab]{2000}",
  max_tokens: null,
  logprobs: true,
  top_logprobs: 20,
};
let browser;
let tab;
let other;

before(async () => {
  browser = await launch();
  other = await json(`${peer.admin}/peers/status`);
  await until("the nodes see each other", async () => {
    const { peers } = await json(`${own.admin}/peers/pending`);
    return peers.some((one) => one.public_key === other.public_key);
  });
  tab = await open(browser);
});

after(() => browser.close());

const card = (list) => tab.page.locator(`#${list}-list [data-key="${other.public_key}"]`);
const dialog = () => tab.page.getByRole("dialog");

test("the token leaves the address and stays with the tab", async () => {
  const { page } = tab;
  await page.getByText("Live", { exact: true }).waitFor();
  assert.equal(page.url(), `${own.admin}/`);
  assert.equal(await page.getByRole("heading", { name: "Read only" }).isVisible(), false);
  await page.reload();
  await page.getByText("Live", { exact: true }).waitFor();
  assert.equal(await page.getByRole("heading", { name: "Read only" }).isVisible(), false);
});

test("the node itself is shown with the fingerprint that others compare", async () => {
  const status = await json(`${own.admin}/peers/status`);
  const shown = await tab.page.locator("#own-print").innerText();
  assert.deepEqual(groups(shown), groups(status.fingerprint));
  assert.equal(groups(shown).length, 8);
  assert.equal(await tab.page.locator("#own-id").innerText(), status.node_id);
  assert.equal(await tab.page.locator("#own-key").innerText(), status.public_key);
});

test("without the token the page shows and changes nothing", async () => {
  const { page, context, complaints } = await open(browser, { address: `${own.admin}/` });
  await page.getByRole("heading", { name: "Read only" }).waitFor();
  await page.getByText("arknet console").waitFor();
  await page.locator(`#pending-list [data-key="${other.public_key}"] button`).click();
  assert.equal(await page.getByRole("dialog").count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), "door-token");
  await picture(page, "read-only");
  await page.keyboard.type(own.token);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Read only" }).waitFor({ state: "hidden" });
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a wrong token is said to be wrong, and forgotten", async () => {
  const { page, context } = await open(browser, { address: `${own.admin}/#token=nonsense` });
  await page.getByRole("alert").filter({ hasText: "not the token of this node" }).waitFor();
  await page.getByRole("heading", { name: "Read only" }).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  await context.close();
});

test("a node is compared and approved with the keyboard alone", async () => {
  const { page } = tab;
  await card("pending").waitFor();
  assert.deepEqual(groups(await card("pending").locator(".print").innerText()), groups(other.fingerprint));
  const { peers } = await json(`${own.admin}/peers/pending`);
  const { node_id } = peers.find((one) => one.public_key === other.public_key);
  await card("pending").getByRole("heading", { name: node_id }).waitFor();
  await picture(page, "pending");
  await card("pending").getByRole("button").focus();
  await page.keyboard.press("Enter");
  await dialog().waitFor();
  assert.deepEqual(groups(await dialog().locator(".print").innerText()), groups(other.fingerprint));
  await picture(page, "approve");

  // Not compared: not approved.
  await dialog().getByRole("button", { name: "Approve" }).focus();
  await page.keyboard.press("Enter");
  assert.equal(await dialog().isVisible(), true);
  assert.equal(await page.evaluate(() => document.activeElement.id), "grant-same");

  await page.keyboard.press("Space");
  await dialog().getByLabel("Only these").check();
  await dialog().getByRole("button", { name: "Approve" }).focus();
  await page.keyboard.press("Enter");
  await dialog().getByText("Choose at least one model, or all.").waitFor();
  await dialog().getByLabel(model).check();
  await dialog().getByLabel("What you call it").fill(HOSTILE);
  await page.keyboard.press("Enter");
  await dialog().waitFor({ state: "hidden" });
  await card("approved").waitFor();
  await card("pending").waitFor({ state: "detached" });

  const [entry] = (await json(`${own.admin}/peers/status`)).peers;
  assert.equal(entry.public_key, other.public_key);
  assert.equal(entry.node_id, node_id);
  assert.deepEqual(entry.permissions.models_shared, [model]);
  assert.equal(entry.permissions.can_request_inference, true);
  assert.equal(entry.permissions.can_pull_models, false);
  assert.equal(entry.permissions.max_concurrent_requests, 1);
});

test("names are text, whatever they say", async () => {
  const { page } = tab;
  assert.equal(await card("approved").locator("h3").innerText(), HOSTILE);
  assert.equal(await page.evaluate(() => window.hit), undefined);
  assert.equal(await page.locator("main img").count(), 0);

  // A node whose label turns writing around, ends lines and is long; its key is markup, too.
  const hostile = {
    node_id: `${HOSTILE}\u202e\u0000\n${"x".repeat(5000)}`,
    public_key: `"><script>window.hit=1</script>`,
    fingerprint: HOSTILE,
    addresses: [HOSTILE],
    sources: [HOSTILE],
    asked: 1,
    asked_at: HOSTILE,
  };
  const url = "**/peers/pending";
  await page.route(url, (route) => route.fulfill({ json: { peers: [hostile] } }));
  const title = page.locator("#pending-list h3");
  await title.filter({ hasText: "onerror" }).waitFor();
  assert.match(await title.innerText(), /\\u\{202e\}\\u\{0\}\\u\{a\}x+\u2026$/);
  await page.locator("#pending-list button").click();
  assert.equal(await dialog().locator(".print").innerText(), HOSTILE);
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => window.hit), undefined);
  assert.equal(await page.locator("main img, main script").count(), 0);
  await page.unroute(url);
});

test("limits can be changed", async () => {
  const { page } = tab;
  await card("approved").getByRole("button", { name: /Change limits/ }).click();
  assert.equal(await dialog().getByRole("checkbox", { name: /compared/ }).isVisible(), false);
  assert.equal(await dialog().getByLabel(model).isChecked(), true);
  await dialog().getByLabel("What you call it").fill("Dave's Ark");
  await dialog().getByLabel("Requests at the same time").fill("0");
  await dialog().getByRole("button", { name: "Save" }).click();
  assert.equal(await dialog().isVisible(), true, "a number out of its bounds is not sent");
  await dialog().getByLabel("Requests at the same time").fill("2");
  await dialog().getByText("More limits").click();
  await dialog().getByLabel("Requests a day").fill("500");
  await picture(page, "limits");
  await dialog().getByRole("button", { name: "Save" }).click();
  await card("approved").getByText(/2 at a time, 500 requests a day/).waitFor();
  await card("approved").getByRole("heading", { name: "Dave's Ark" }).waitFor();
  const [entry] = (await json(`${own.admin}/peers/status`)).peers;
  assert.equal(entry.permissions.requests_per_day, 500);
  assert.equal(entry.permissions.requests_per_minute ?? null, null);
});

test("its load is live, and revoking cuts what runs", async () => {
  const { page } = tab;
  // The other side trusts, too, as its own owner would make it: with curl.
  const me = await json(`${own.admin}/peers/status`);
  const body = {
    node_id: me.node_id,
    public_key: me.public_key,
    permissions: { can_request_inference: false, can_pull_models: false, models_shared: [], max_concurrent_requests: 1 },
  };
  await json(`${peer.admin}/peers/approve`, { method: "POST", body });
  await until("the model is offered", async () => {
    const models = await json(`${peer.gateway}/v1/models`);
    return models.data.some((one) => one.id === model);
  });
  const chat = `${peer.gateway}/v1/chat/completions`;
  const answer = await json(chat, question());
  assert.ok(answer.choices[0].message.content);
  await card("approved").getByText(/^1 request, /).waitFor();

  // One after the other, so that there is one whenever somebody looks, however quick the model is.
  let last = "";
  const asking = (async () => {
    for (;;) {
      const stream = await send(chat, question(endless));
      if (stream.statusCode !== 200) return stream.statusCode;
      last = await text(stream);
      if (last.includes('"error"')) return stream.statusCode;
    }
  })();
  await card("approved").getByText("1 of 2 running").waitFor();
  assert.equal(await card("approved").locator("meter").evaluate((meter) => meter.value), 1);
  await picture(page, "running");

  await card("approved").getByRole("button", { name: /Revoke/ }).click();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Keep it");
  await picture(page, "revoke");
  await page.keyboard.press("Escape");
  assert.equal((await json(`${own.admin}/peers/status`)).peers.length, 1, "asked, not done");
  await card("approved").getByRole("button", { name: /Revoke/ }).click();
  await dialog().getByRole("button", { name: "Revoke" }).click();
  await page.getByText(/is revoked; 1 running request was cut/).waitFor();
  assert.equal(await asking, 200, "it was running");
  assert.match(last, /"error"/, "the stream ends in an error");
  await card("pending").waitFor();
  await card("approved").waitFor({ state: "detached" });
  const refused = await send(chat, question());
  assert.ok(refused.statusCode >= 400, String(refused.statusCode));
});

test("it asks while it is looked at, and says so when nobody answers", async () => {
  const { page, context } = await open(browser);
  await page.getByText("Live", { exact: true }).waitFor();
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.getByText("Paused").waitFor();
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => false });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.getByText("Live", { exact: true }).waitFor();
  await context.setOffline(true);
  await page.getByText("The node does not answer.").waitFor();
  await context.setOffline(false);
  await page.getByText("Live", { exact: true }).waitFor();
  await context.close();
});

test("it fits a telephone, and the dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { page, context, complaints } = await open(browser, { viewport: { width: 320, height: 640 }, colorScheme });
    await page.getByText("Live", { exact: true }).waitFor();
    await page.locator("#pending-list button").first().waitFor();
    const fits = () => document.documentElement.scrollWidth <= innerWidth;
    assert.ok(await page.evaluate(fits), "nothing has to be scrolled sideways");
    await picture(page, `narrow-${colorScheme}`);
    await page.locator("#pending-list button").first().click();
    assert.ok(await page.getByRole("dialog").evaluate((box) => box.scrollWidth <= box.clientWidth));
    await picture(page, `narrow-approve-${colorScheme}`);
    assert.deepEqual(complaints, []);
    await context.close();
  }
});

test("the browser had nothing to complain about", () => {
  assert.deepEqual(tab.complaints, []);
});

function groups(fingerprint) {
  return fingerprint.replace(/[^0-9a-f]/gi, "").match(/.{4}/g) ?? [];
}
