// How the page says what the node API tells it. ARKNET_WEB is the folder of the page's files.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const words = await import(pathToFileURL(`${process.env.ARKNET_WEB}/words.js`));
const NOW = Date.parse("2026-03-15T10:30:00Z");

test("a fingerprint is shown in eight groups, and anything else as it is", () => {
  const groups = ["7bbc", "19f3", "b82a", "5661", "f498", "92cf", "3106", "cf3d"];
  assert.deepEqual(words.groups(groups.join(" ")), groups);
  assert.deepEqual(words.groups(groups.join(":")), groups);
  assert.deepEqual(words.groups("7bbc 19f3"), ["7bbc 19f3"]);
  assert.deepEqual(words.groups(undefined), [""]);
});

test("what cannot be seen in a label is made visible", () => {
  assert.equal(words.label("ark-\u202egnp.exe"), "ark-\\u{202e}gnp.exe");
  assert.equal(words.label("a\u200bb\u0000c\nd"), "a\\u{200b}b\\u{0}c\\u{a}d");
  assert.equal(words.label("K\u00fcche \u{1f600}"), "K\u00fcche \u{1f600}");
  assert.equal(words.label("x".repeat(81)), `${"x".repeat(80)}\u2026`);
  assert.equal(words.label(null), "");
});

test("moments are told as people tell them", () => {
  const ago = (seconds) => words.ago(new Date(NOW - seconds * 1000).toISOString(), NOW);
  assert.deepEqual(
    [-5, 0, 9, 10, 59, 60, 3599, 3600, 86_399].map(ago),
    ["just now", "just now", "just now", "10 s ago", "59 s ago", "1 min ago", "59 min ago", "1 h ago", "23 h ago"],
  );
  assert.equal(ago(86_400), "on 2026-03-14");
  assert.equal(words.ago(null, NOW), "");
  assert.equal(words.ago("<img>", NOW), "");
  assert.equal(words.asked({ asked: 1, asked_at: "2026-03-15T10:29:00Z" }, NOW), "1 time, 1 min ago");
  assert.equal(words.asked({ asked: 0, asked_at: null }, NOW), "Not yet");
});

test("rights are one sentence", () => {
  const permissions = {
    can_request_inference: true,
    can_pull_models: true,
    models_shared: ["qwen3.5:35b", "llama3.1:8b"],
    max_concurrent_requests: 2,
  };
  assert.equal(words.rights(permissions), "send questions and copy models: qwen3.5:35b, llama3.1:8b; 2 at a time");
  const all = { ...permissions, can_pull_models: false, models_shared: ["*"], requests_per_day: 1500, tokens_per_day: null };
  assert.equal(words.rights(all), "send questions: all models; 2 at a time, 1,500 requests a day");
  assert.equal(words.rights({ ...permissions, models_shared: [] }), "send questions and copy models: no model; 2 at a time");
  assert.match(words.rights({ ...all, can_request_inference: false }), /^nothing/);
});

test("long lists say how much is left out", () => {
  assert.equal(words.labels(["a", "b", "c"], 2), "a, b, and 1 more");
  assert.equal(words.labels(["a"], 2), "a");
  assert.equal(words.labels(undefined, 2), "");
});
