// The running nodes, as programs on the same machine ask them.
//
// ARKNET_OWN_ADMIN    the node API whose console is tested: http://localhost:8910
// ARKNET_OWN_GATEWAY  its gateway: http://127.0.0.1:4000
// ARKNET_OWN_TOKEN    its token
// ARKNET_PEER_ADMIN, ARKNET_PEER_GATEWAY    a node without models that is connected to it
// ARKNET_MODEL        a model of the first node
// ARKNET_PICTURES     a folder for pictures of the page; none are taken without

import http from "node:http";
import { once } from "node:events";

const of = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

export const own = { admin: of("ARKNET_OWN_ADMIN"), gateway: of("ARKNET_OWN_GATEWAY"), token: of("ARKNET_OWN_TOKEN") };
export const peer = { admin: of("ARKNET_PEER_ADMIN"), gateway: of("ARKNET_PEER_GATEWAY") };
export const model = of("ARKNET_MODEL");
export const pictures = process.env.ARKNET_PICTURES;

/// A request as curl sends it: with no header that a browser would add. The answer is not read.
export async function send(url, { method = "GET", headers = {}, body } = {}) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const more = text === undefined ? {} : { "Content-Type": "application/json" };
  const request = http.request(url, { method, headers: { ...more, ...headers }, agent: false });
  request.end(text);
  const [response] = await once(request, "response");
  return response;
}

export async function text(response) {
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/// Asks, and expects JSON and success.
export async function json(url, options) {
  const response = await send(url, options);
  const body = await text(response);
  if (response.statusCode !== 200) throw new Error(`${url}: ${response.statusCode} ${body}`);
  return JSON.parse(body);
}

/// Asks again until what comes is as it should be.
export async function until(what, ask, patienceMs = 30_000) {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await new Promise(setImmediate);
  }
}

export const question = (more) => ({
  method: "POST",
  body: { model, messages: [{ role: "user", content: "What is arknet?" }], max_tokens: 16, ...more },
});
