// What asks before something changes: approving, changing limits, revoking.

import * as api from "./api.js";
import * as words from "./words.js";
import { byId, fill, fillPrint, setHidden, setText } from "./page.js";

const LIMITS = ["requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day"];

/// The peer a dialog was opened for. It stays the same whatever the lists behind it do.
let subject;
let isApproved = false;

/// `done` is called with what was achieved, or with nothing when the token turned out to be wrong.
export function prepareDialogs(done) {
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  for (const radio of [byId("grant-all"), byId("grant-some")]) {
    radio.addEventListener("change", showModels);
  }
  byId("grant-form").addEventListener("submit", (event) => submit(event, "grant", approve, done));
  byId("revoke-form").addEventListener("submit", (event) => submit(event, "revoke", revoke, done));
}

/// For a peer that is pending, with the fingerprint to compare, or one that may do something `now`.
export function openGrant(peer, models, now) {
  subject = peer;
  isApproved = Boolean(now);
  byId("grant-form").reset();
  describe(byId("grant"), peer);
  setText(byId("grant-legend"), now ? "Its fingerprint" : "Compare the fingerprint");
  setText(byId("grant-title"), now ? "Change limits" : "Approve a node");
  setText(byId("grant-do"), now ? "Save" : "Approve");
  setHidden(byId("grant-how"), isApproved);
  setHidden(byId("grant-same").parentElement, isApproved);
  byId("grant-same").required = !isApproved;
  byId("grant-ask").checked = now ? now.can_request_inference : true;
  byId("grant-pull").checked = now ? now.can_pull_models : false;
  fillModels(models, now?.models_shared ?? ["*"]);
  byId("grant-concurrent").value = now?.max_concurrent_requests ?? 1;
  for (const key of LIMITS) byId(`grant-${key}`).value = now?.[key] ?? "";
  byId("grant-limits").open = LIMITS.some((key) => now?.[key] != null);
  byId("grant-name").value = peer.name ?? "";
  byId("grant").showModal();
  byId("grant").scrollTop = 0;
}

export function openRevoke(peer) {
  subject = peer;
  describe(byId("revoke"), peer);
  byId("revoke").showModal();
}

function describe(dialog, peer) {
  const own = words.label(peer.node_id);
  fill(dialog, { who: peer.name ? `${words.label(peer.name)} (${own})` : own });
  fillPrint(dialog.querySelector("[data-field=print]"), peer.fingerprint);
  fail(dialog.id, "");
}

function fillModels(models, shared) {
  const all = shared.includes("*");
  byId(all ? "grant-all" : "grant-some").checked = true;
  byId("grant-list").replaceChildren(
    ...models.map((model) => {
      const tick = document.createElement("label");
      tick.className = "tick";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = model;
      box.checked = shared.includes(model);
      const name = document.createElement("bdi");
      name.textContent = words.label(model);
      tick.append(box, " ", name);
      return tick;
    }),
  );
  const others = shared.filter((model) => model !== "*" && !models.includes(model));
  byId("grant-others").value = others.join(", ");
  showModels();
}

function showModels() {
  setHidden(byId("grant-models"), byId("grant-all").checked);
}

function chosenModels() {
  if (byId("grant-all").checked) return ["*"];
  const ticked = byId("grant-list").querySelectorAll("input:checked");
  const typed = byId("grant-others").value.split(",").map((model) => model.trim());
  return [...new Set([...Array.from(ticked, (box) => box.value), ...typed.filter(Boolean)])];
}

async function approve() {
  const permissions = {
    can_request_inference: byId("grant-ask").checked,
    can_pull_models: byId("grant-pull").checked,
    models_shared: chosenModels(),
    max_concurrent_requests: byId("grant-concurrent").valueAsNumber,
  };
  if (!permissions.models_shared.length) {
    throw new api.ApiError(0, "no_model", "Choose at least one model, or all.");
  }
  for (const key of LIMITS) {
    const limit = byId(`grant-${key}`).valueAsNumber;
    if (!Number.isNaN(limit)) permissions[key] = limit;
  }
  const { node_id, public_key } = subject;
  const name = byId("grant-name").value.trim();
  const body = { node_id, public_key, permissions, ...(name && { name }) };
  await api.change("peers/approve", body);
  return `${name || words.label(node_id)} is ${isApproved ? "changed" : "approved"}.`;
}

async function revoke() {
  const answer = await api.change("peers/revoke", { public_key: subject.public_key });
  const cut = answer.cut ? `; ${words.count(answer.cut, "running request was", "running requests were")} cut` : "";
  return `${words.label(subject.name || subject.node_id)} is revoked${cut}.`;
}

/// Once at a time: the button is off until the node has answered.
async function submit(event, id, act, done) {
  event.preventDefault();
  const button = byId(`${id}-do`);
  if (button.disabled) return;
  button.disabled = true;
  fail(id, "");
  try {
    const achieved = await act();
    byId(id).close();
    done(achieved);
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    fail(id, error.message);
    if (error.wantsToken) {
      api.forgetToken();
      done("");
    }
  } finally {
    button.disabled = false;
  }
}

function fail(id, text) {
  setHidden(byId(`${id}-error`), !text);
  setText(byId(`${id}-error`), text);
}
