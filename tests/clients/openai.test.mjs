// The official openai package against a running gateway.
//
// ARKNET_BASE_URL names the gateway (http://127.0.0.1:4000/v1) and ARKNET_MODEL a model it can
// reach. The tests ask for behaviour, not for words, so that any model will do. ARKNET_FAILING_MODEL,
// where it is set, names a model whose answers fail after the first token.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const model = process.env.ARKNET_MODEL;
const failing = process.env.ARKNET_FAILING_MODEL;
const baseURL = process.env.ARKNET_BASE_URL;
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const messages = [
  { role: "system", content: "Answer briefly." },
  { role: "user", content: [{ type: "text", text: "What is arknet?" }] },
];

function chat(more = {}) {
  const ask = { model, messages, max_tokens: 12, temperature: 0, seed: -1, ...more };
  return client.chat.completions.create(ask);
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("chat", async () => {
  const answer = await chat({ user: "somebody", metadata: { a: "b" } });
  assert.equal(answer.object, "chat.completion");
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.model, model);
  assert.equal(answer.choices.length, 1);
  assert.equal(answer.choices[0].message.role, "assistant");
  assert.ok(answer.choices[0].message.content);
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.ok(prompt_tokens > 0 && completion_tokens > 0 && completion_tokens <= 12);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
});

test("streaming chat", async () => {
  const whole = (await chat()).choices[0].message.content;
  const stream = await chat({ stream: true, stream_options: { include_usage: true } });
  const chunks = await collect(stream);
  const last = chunks.pop();
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  assert.equal(text, whole);
  const reasons = chunks.map((chunk) => chunk.choices[0].finish_reason);
  assert.ok(["stop", "length"].includes(reasons.pop()));
  assert.ok(reasons.every((reason) => reason === null));
  assert.deepEqual(last.choices, []);
  assert.ok(last.usage.completion_tokens > 0);
});

test("streaming chat through the package's own accumulator", async () => {
  const ask = { model, messages, max_tokens: 4, temperature: 0 };
  const answer = await client.chat.completions.stream(ask).finalChatCompletion();
  assert.ok(answer.choices[0].message.content);
  assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
});

test("completions", async () => {
  const ask = { model, prompt: "arknet is", max_tokens: 6, temperature: 0 };
  const answer = await client.completions.create(ask);
  assert.equal(answer.object, "text_completion");
  assert.ok(answer.usage.completion_tokens <= 6);
  const chunks = await collect(await client.completions.create({ ...ask, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), answer.choices[0].text);
  assert.equal(chunks.at(-1).choices[0].finish_reason, answer.choices[0].finish_reason);
});

test("models", async () => {
  const listed = await collect(await client.models.list());
  const found = await client.models.retrieve(model);
  assert.deepEqual(
    listed.find((entry) => entry.id === model),
    found,
  );
  assert.equal(found.object, "model");
  assert.match(found.arknet.digest, /^sha256:[0-9a-f]{64}$/);
});

test("unknown model", async () => {
  const unknown = (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.status, 404);
    assert.equal(error.code, "model_not_found");
    assert.equal(error.type, "invalid_request_error");
    assert.ok(error.requestID);
    return true;
  };
  await assert.rejects(chat({ model: "nobody/serves-this" }), unknown);
  await assert.rejects(chat({ model: "nobody/serves-this", stream: true }), unknown);
  await assert.rejects(client.models.retrieve("nobody/serves-this"), unknown);
});

test("bad parameters", async () => {
  const image = { type: "image_url", image_url: { url: "about:blank" } };
  for (const [more, param] of [
    [{ top_p: 7 }, "top_p"],
    [{ top_p: "high" }, "top_p"],
    [{ n: 2 }, "n"],
    [{ messages: [] }, "messages"],
    [{ messages: [{ role: "user", content: [image] }] }, "messages[0].content[0]"],
  ]) {
    await assert.rejects(chat(more), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, param);
      return true;
    });
  }
});

test("who answered", async () => {
  const { response, request_id } = await chat({ max_tokens: 1 }).withResponse();
  assert.match(response.headers.get("x-arknet-peer"), /^12D3Koo/);
  assert.equal(response.headers.get("x-request-id"), request_id);
});

test("stop sequence", async () => {
  const text = (await chat()).choices[0].message.content;
  const half = Math.floor(text.length / 2);
  const stop = text.slice(half, half + 3);
  const { finish_reason, message } = (await chat({ stop })).choices[0];
  assert.equal(finish_reason, "stop");
  assert.equal(message.content, text.slice(0, text.indexOf(stop)));
});

test("token limit", async () => {
  for (const limit of ["max_tokens", "max_completion_tokens"]) {
    const ask = { model, messages, [limit]: 1 };
    const answer = await client.chat.completions.create(ask);
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 1);
  }
});

test("many requests in a row", async () => {
  const ids = new Set();
  for (let round = 0; round < 10; round += 1) {
    ids.add((await chat({ max_tokens: 1 }))._request_id);
  }
  assert.equal(ids.size, 10);
});

test("closing a stream cancels it", async () => {
  for (let round = 0; round < 20; round += 1) {
    const stream = await chat({ stream: true, max_tokens: 200 });
    for await (const chunk of stream) {
      assert.equal(chunk.choices[0].delta.role, "assistant");
      break;
    }
    assert.ok(stream.controller.signal.aborted);
  }
  // Were they still running, this would wait for them or be refused.
  assert.equal((await chat({ max_tokens: 1 })).usage.completion_tokens, 1);
});

test("failure in the middle", { skip: !failing && "needs a model that fails" }, async () => {
  const chunks = [];
  const stream = await chat({ model: failing, stream: true });
  await assert.rejects(
    async () => {
      for await (const chunk of stream) chunks.push(chunk);
    },
    (error) => {
      assert.ok(error instanceof OpenAI.APIError);
      assert.equal(error.type, "api_error");
      assert.ok(["peer_lost", "provider_failed", "shutting_down"].includes(error.code));
      return true;
    },
  );
  assert.ok(chunks.length > 0);
});
