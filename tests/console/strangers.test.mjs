// Web pages of others, in the same browser: they can neither read, nor approve, nor infer.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import { launch, open, REBOUND } from "./browser.mjs";
import { json, own, peer, question, send, text, until } from "./nodes.mjs";

let browser;
let server;
let elsewhere;
let other;

before(async () => {
  browser = await launch();
  other = await json(`${peer.admin}/peers/status`);
  await until("the nodes see each other", async () => {
    const { peers } = await json(`${own.admin}/peers/pending`);
    return peers.some((one) => one.public_key === other.public_key);
  });
  server = http.createServer((_, response) => {
    response.setHeader("Content-Type", "text/html").end("<!doctype html><title>Cute cats</title>");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  elsewhere = `http://127.0.0.1:${server.address().port}/`;
});

after(async () => {
  await browser.close();
  server.close();
});

const approval = () => ({
  node_id: other.node_id,
  public_key: other.public_key,
  permissions: { can_request_inference: true, can_pull_models: true, models_shared: ["*"], max_concurrent_requests: 64 },
});

/// Tries what a page can try. Says what it could read; what it did shows on the node.
async function attack(page, admin, gateway) {
  return page.evaluate(
    async ([admin, gateway, approval, question, token]) => {
      const read = [];
      const attempt = async (name, url, options) => {
        try {
          const answer = await fetch(url, options);
          const body = await answer.text();
          if (answer.ok && body) read.push(`${name}: ${body.slice(0, 200)}`);
        } catch {
          // Refused by the browser or by the node.
        }
      };
      const post = (body, more) => ({ method: "POST", body: JSON.stringify(body), ...more });
      const typed = { headers: { "Content-Type": "application/json" } };
      for (const path of ["/", "/status", "/peers/status", "/peers/pending", "/peers/discovered", "/metrics"]) {
        await attempt(path, admin + path, {});
        await attempt(path, admin + path, { mode: "no-cors" });
      }
      await attempt("approve", `${admin}/peers/approve`, post(approval, typed));
      await attempt("approve as a form", `${admin}/peers/approve`, post(approval, { mode: "no-cors" }));
      const wrong = { headers: { ...typed.headers, Authorization: `Bearer ${token}` } };
      await attempt("approve with a guess", `${admin}/peers/approve`, post(approval, wrong));
      await attempt("models", `${gateway}/v1/models`, {});
      await attempt("infer", `${gateway}/v1/chat/completions`, post(question, typed));
      await attempt("infer as a form", `${gateway}/v1/chat/completions`, post(question, { mode: "no-cors" }));
      await attempt("infer as ollama", `${gateway}/api/chat`, post(question, { mode: "no-cors" }));
      return read;
    },
    [admin, gateway, approval(), question().body, "0".repeat(own.token.length)],
  );
}

async function approved() {
  return (await json(`${own.admin}/peers/status`)).peers;
}

/// How many tokens the gateway has given out.
async function inferred() {
  const metrics = await text(await send(`${own.admin}/metrics`));
  return metrics.split("\n").filter((line) => line.startsWith("arknet_tokens_total")).join("\n");
}

test("a page of another origin", async () => {
  const before = await inferred();
  const { page, context } = await open(browser, { address: elsewhere });
  assert.deepEqual(await attack(page, own.admin, own.gateway), []);

  // A form needs no permission to be sent; its answer is shown, not read.
  await page.evaluate(
    ([action, body]) => {
      const form = document.createElement("form");
      Object.assign(form, { method: "POST", enctype: "text/plain", action });
      const field = document.createElement("input");
      Object.assign(field, { name: body.slice(0, -1) + ',"x":"', value: '"}' });
      form.append(field);
      document.body.append(form);
      form.submit();
    },
    [`${own.admin}/peers/approve`, JSON.stringify(approval())],
  );
  await page.waitForURL(`${own.admin}/**`);
  assert.deepEqual(await approved(), []);
  assert.equal(await inferred(), before);
  await context.close();
});

test("a page that puts the console into a frame, or its script into itself", async () => {
  const { page, context } = await open(browser, { address: elsewhere });
  const refused = page.waitForEvent("console", (message) => /frame/i.test(message.text()));
  const loaded = await page.evaluate(async (admin) => {
    const frame = document.createElement("iframe");
    frame.src = `${admin}/`;
    document.body.append(frame);
    const script = document.createElement("script");
    script.src = `${admin}/web/console.js`;
    script.type = "module";
    const outcome = new Promise((resolve) => {
      script.onload = () => resolve(true);
      script.onerror = () => resolve(false);
    });
    document.body.append(script);
    return outcome;
  }, own.admin);
  await refused;
  assert.equal(loaded, false);
  await context.close();
});

for (const [what, of] of [
  ["the node API", (nodes) => nodes.admin],
  ["the gateway", (nodes) => nodes.gateway],
]) {
  test(`a name that was made to mean this machine: ${what}`, async () => {
    const before = await inferred();
    // What the name meant first: the attacker's own server, which gave this page.
    const origin = `http://${REBOUND}:${new URL(of(own)).port}`;
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.route(`${origin}/cats`, (route) =>
      route.fulfill({ contentType: "text/html", body: "<!doctype html><title>Cute cats</title>" }),
    );
    await page.goto(`${origin}/cats`);
    // And what it means now: to the browser it is all one origin.
    assert.deepEqual(await attack(page, origin, origin), []);
    assert.deepEqual(await approved(), []);
    assert.equal(await inferred(), before);
    await context.close();
  });
}

test("the page's policy holds against what gets into it", async () => {
  const { page, context } = await open(browser);
  await page.getByText("Live", { exact: true }).waitFor();
  const outcome = await page.evaluate(async () => {
    const refused = [];
    const refuses = (name, attempt) => {
      try {
        attempt();
      } catch {
        refused.push(name);
      }
    };
    refuses("markup", () => (document.body.innerHTML += "<b>x</b>"));
    const script = document.createElement("script");
    refuses("script", () => (script.textContent = "window.hit = 1"));
    script.append("window.hit = 1");
    document.body.append(script);
    const image = document.createElement("img");
    image.setAttribute("src", "data:,");
    refuses("handler", () => image.setAttribute("onerror", "window.hit = 1"));
    document.body.append(image);
    const away = await fetch("https://example.com/").then(
      () => false,
      () => true,
    );
    return { refused, away, hit: window.hit };
  });
  assert.deepEqual(outcome, { refused: ["markup", "script", "handler"], away: true, hit: undefined });
  const { headers } = await send(`${own.admin}/`);
  assert.match(headers["content-security-policy"], /default-src 'none'.*frame-ancestors 'none'/);
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["referrer-policy"], "no-referrer");
  assert.equal(headers["access-control-allow-origin"], undefined);
  await context.close();
});
