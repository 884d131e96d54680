// The official openai package against a running gateway. environment.py says what it needs.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const model = process.env.ARKNET_MODEL;
const embedModel = process.env.ARKNET_EMBED_MODEL || model;
const failing = process.env.ARKNET_FAILING_MODEL;
const baseURL = process.env.ARKNET_BASE_URL;
const apiKey = process.env.ARKNET_API_KEY || "unused";
const keyed = process.env.ARKNET_KEYED === "1";
const names = (list) => new Set((list ?? "").split(",").filter(Boolean));
const missing = names(process.env.ARKNET_SKIP);
const loose = names(process.env.ARKNET_LOOSE);

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const messages = [
  { role: "system", content: "Answer briefly." },
  { role: "user", content: [{ type: "text", text: "What is arknet?" }] },
];

// A form with an end, so that even a model without sense gets there.
const schema = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    age: { type: "integer", minimum: 0, maximum: 120 },
    colour: { enum: ["red", "green", "blue"] },
  },
  required: ["name", "age", "colour"],
  additionalProperties: false,
};
const format = { type: "json_schema", json_schema: { name: "person", strict: true, schema } };
const tool = {
  type: "function",
  function: { name: "get_person", description: "A person.", parameters: schema, strict: true },
};

function fitsSchema(value) {
  assert.deepEqual(Object.keys(value).sort(), ["age", "colour", "name"]);
  assert.ok(typeof value.name === "string" && value.name.length <= 12);
  assert.ok(Number.isInteger(value.age) && value.age >= 0 && value.age <= 120);
  assert.ok(["red", "green", "blue"].includes(value.colour));
}

// The test as it is where all features are there; elsewhere one that asks for the refusal.
function needs(features, name, body) {
  if (features.some((feature) => loose.has(feature))) {
    test(name, { skip: "taken, but not kept to" }, body);
  } else if (features.some((feature) => missing.has(feature))) {
    test(`${name} is refused`, () =>
      assert.rejects(body, (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError, error);
        assert.ok(["unsupported", "unsupported_parameter"].includes(error.code), error.code);
        return true;
      }));
  } else {
    test(name, body);
  }
}

function chat(more = {}) {
  const ask = { model, messages, max_tokens: 12, temperature: 0, ...more };
  if (!missing.has("seed")) ask.seed ??= -1;
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

needs(["completions"], "completions", async () => {
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
  assert.ok(listed.some((entry) => entry.id === model));
  assert.equal(found.object, "model");
  assert.equal(found.owned_by, "arknet");
  if (found.arknet.digest) assert.match(found.arknet.digest, /^sha256:[0-9a-f]{64}$/);
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
  const sound = { type: "input_audio", input_audio: {} };
  for (const [more, param] of [
    [{ top_p: 7 }, "top_p"],
    [{ top_p: "high" }, "top_p"],
    [{ n: 0 }, "n"],
    [{ response_format: { type: "poem" } }, "response_format"],
    [{ messages: [] }, "messages"],
    [{ messages: [{ role: "user", content: [sound] }] }, "messages[0].content[0]"],
  ]) {
    await assert.rejects(chat(more), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.ok(error.param.startsWith(param), error.param);
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

test("several answers", async () => {
  const { choices } = await chat({ n: 3, temperature: 1, max_tokens: 4 });
  assert.deepEqual(
    choices.map((choice) => choice.index),
    [0, 1, 2],
  );
  // One may be over before it says anything.
  assert.ok(choices.some((choice) => choice.message.content));
});

needs(["logprobs"], "logprobs", async () => {
  const [choice] = (await chat({ logprobs: true, top_logprobs: 2 })).choices;
  const tokens = choice.logprobs.content;
  const text = Buffer.concat(tokens.map((token) => Buffer.from(token.bytes))).toString();
  assert.equal(text, choice.message.content);
  assert.ok(tokens.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));
});

needs(["tools", "tool_choice"], "a tool that must be called", async () => {
  // One call: a model without sense goes on calling until its tokens end.
  const once = { parallel_tool_calls: false, temperature: 0 };
  const ask = { tools: [tool], tool_choice: "required", max_tokens: 200, ...once };
  const [choice] = (await chat(ask)).choices;
  assert.equal(choice.finish_reason, "tool_calls");
  const [call] = choice.message.tool_calls;
  assert.ok(call.id);
  assert.equal(call.function.name, "get_person");
  fitsSchema(JSON.parse(call.function.arguments));
  const stream = client.chat.completions.stream({ model, messages, ...ask });
  const [streamed] = (await stream.finalChatCompletion()).choices;
  fitsSchema(streamed.message.tool_calls[0].function.parsed_arguments);
});

needs(["tools", "tool_choice"], "a tool that the package runs", async () => {
  const ran = [];
  const own = { ...tool.function, parse: JSON.parse, function: (person) => ran.push(person) && "ok" };
  const runner = client.chat.completions.runTools({
    model,
    messages,
    max_tokens: 200,
    temperature: 0,
    parallel_tool_calls: false,
    tools: [{ type: "function", function: own }],
    // The package asks for this tool once, and then for an answer.
    tool_choice: { type: "function", function: { name: "get_person" } },
  });
  await runner.done();
  assert.ok(ran.length > 0);
  ran.forEach(fitsSchema);
});

needs(["constrained"], "JSON schema", async () => {
  const [choice] = (await chat({ response_format: format, max_tokens: 200 })).choices;
  assert.equal(choice.finish_reason, "stop");
  fitsSchema(JSON.parse(choice.message.content));
  const ask = { model, messages, max_tokens: 200, temperature: 0, response_format: format };
  fitsSchema((await client.chat.completions.parse(ask)).choices[0].message.parsed);
});

function respond(more = {}) {
  const ask = { model, input: "What is arknet?", max_output_tokens: 16, temperature: 0, ...more };
  return client.responses.create(ask);
}

test("responses", async () => {
  const first = await respond();
  assert.match(first.id, /^resp_/);
  assert.ok(first.output_text);
  assert.ok(["completed", "incomplete"].includes(first.status));
  const events = await collect(await respond({ stream: true }));
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    events.map((_, place) => place),
  );
  assert.equal(events[0].type, "response.created");
  assert.ok(["response.completed", "response.incomplete"].includes(events.at(-1).type));
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), first.output_text);
  const second = await respond({ input: "And why?", previous_response_id: first.id });
  assert.ok(second.usage.input_tokens > first.usage.input_tokens);
  await assert.rejects(respond({ previous_response_id: "resp_nobody" }), {
    code: "previous_response_not_found",
  });
});

needs(["tools", "tool_choice"], "tools in responses", async () => {
  const own = { type: "function", ...tool.function };
  const once = { parallel_tool_calls: false };
  const ask = { tools: [own], tool_choice: "required", max_output_tokens: 200, ...once };
  const calls = (await respond(ask)).output.filter((item) => item.type === "function_call");
  assert.equal(calls[0].name, "get_person");
  fitsSchema(JSON.parse(calls[0].arguments));
});

needs(["embeddings"], "embeddings", async () => {
  const input = ["What is arknet?", "a completely different sentence"];
  const packed = await client.embeddings.create({ model: embedModel, input });
  const plain = await client.embeddings.create({
    model: embedModel,
    input,
    encoding_format: "float",
  });
  assert.equal(plain.data.length, 2);
  for (const [place, { embedding }] of plain.data.entries()) {
    const other = packed.data[place].embedding;
    assert.equal(other.length, embedding.length);
    assert.ok(embedding.every((value, index) => Math.abs(value - other[index]) < 1e-5));
    assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-3);
  }
});

test("a wrong key", { skip: !keyed && "needs a server that asks for keys" }, async () => {
  const stranger = client.withOptions({ apiKey: "sk-ark-wrong" });
  await assert.rejects(stranger.models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    return true;
  });
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
