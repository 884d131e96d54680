// The AI SDK, which many agents and web programs stand on, against a running gateway: with its
// providers for OpenAI's two APIs, for servers that are like OpenAI's, and for Anthropic's.
// environment.py says what the tests need.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  embedMany,
  generateObject,
  generateText,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import { z } from "zod";

const model = process.env.ARKNET_MODEL;
const embedModel = process.env.ARKNET_EMBED_MODEL || model;
const baseURL = process.env.ARKNET_BASE_URL;
const apiKey = process.env.ARKNET_API_KEY || "unused";
const absent = new Set(
  [process.env.ARKNET_SKIP, process.env.ARKNET_LOOSE].flatMap((list) => (list ?? "").split(",")),
);

// What it has to say of settings that a provider leaves out is nothing of the gateway's.
globalThis.AI_SDK_LOG_WARNINGS = false;

const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({
  name: "arknet",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const anthropic = createAnthropic({ baseURL, apiKey });
const providers = {
  responses: (name) => openai.responses(name),
  chat: (name) => openai.chat(name),
  compatible: (name) => compatible(name),
  anthropic: (name) => anthropic(name),
};

const messages = [{ role: "user", content: [{ type: "text", text: "What is arknet?" }] }];
const brief = { system: "Answer briefly.", messages, maxOutputTokens: 12, temperature: 0 };
const once = { maxRetries: 0 };
const person = z.object({ name: z.string().max(12), colour: z.enum(["red", "green", "blue"]) });

function needs(features, name, body) {
  const lacks = features.filter((feature) => absent.has(feature));
  test(name, { skip: lacks.length > 0 && `without ${lacks}` }, body);
}

// A call, what the tool said, and an answer, with the tool run by the package.
function withTool(ask, ran) {
  return {
    ...ask,
    ...once,
    maxOutputTokens: 200,
    tools: {
      get_person: tool({
        description: "A person.",
        inputSchema: person,
        execute: (input) => ran.push(input) && "well",
      }),
    },
    prepareStep: ({ stepNumber }) => ({
      // Without sense a model goes on calling, so that one step has to be the last.
      toolChoice: stepNumber === 0 ? "required" : "none",
    }),
    stopWhen: stepCountIs(2),
  };
}

for (const [name, provider] of Object.entries(providers)) {
  const ask = { ...brief, model: provider(model) };

  test(`${name}: text, whole and as a stream`, async () => {
    const whole = await generateText({ ...ask, ...once });
    assert.ok(whole.text);
    assert.ok(["stop", "length"].includes(whole.finishReason), whole.finishReason);
    assert.ok(whole.usage.inputTokens > 0 && whole.usage.outputTokens > 0);
    const stream = streamText({ ...ask, ...once });
    let text = "";
    for await (const part of stream.textStream) {
      text += part;
    }
    assert.equal(text, whole.text);
    assert.equal(await stream.finishReason, whole.finishReason);
    assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
  });

  needs(["tools", "tool_choice"], `${name}: a tool that the package runs`, async () => {
    const ran = [];
    const whole = await generateText(withTool(ask, ran));
    assert.equal(whole.steps[0].finishReason, "tool-calls");
    assert.equal(whole.steps.length, 2);
    assert.ok(whole.text);
    const calls = ran.length;
    assert.ok(calls > 0);
    const stream = streamText(withTool(ask, ran));
    await stream.consumeStream();
    assert.equal((await stream.steps)[0].finishReason, "tool-calls");
    assert.ok(ran.length > calls);
    ran.forEach((input) => assert.deepEqual(person.parse(input), input));
  });

  // Of a model that it does not know Anthropic's provider asks for an object by a tool.
  const asks = name === "anthropic" ? ["constrained", "tools", "tool_choice"] : ["constrained"];
  needs(asks, `${name}: an object`, async () => {
    const { object } = await generateObject({
      ...ask,
      ...once,
      maxOutputTokens: 200,
      schema: person,
    });
    assert.deepEqual(person.parse(object), object);
  });

  test(`${name}: a model that nobody serves`, async () => {
    const lost = generateText({ ...brief, ...once, model: provider("nobody/serves-this") });
    await assert.rejects(lost, (error) => {
      assert.ok(APICallError.isInstance(error), error);
      assert.equal(error.statusCode, 404);
      assert.match(error.message, /nobody\/serves-this/);
      return true;
    });
  });
}

needs(["embeddings"], "embeddings", async () => {
  const values = ["What is arknet?", "a completely different sentence"];
  const ask = { values, ...once };
  for (const kind of [openai.embedding(embedModel), compatible.embeddingModel(embedModel)]) {
    const { embeddings, usage } = await embedMany({ ...ask, model: kind });
    assert.equal(embeddings.length, 2);
    assert.notDeepEqual(embeddings[0], embeddings[1]);
    assert.ok(usage.tokens > 0);
  }
});
