// The grid page: shows what the node API says every two seconds, and changes what its reader asks for.
//
// What comes from other nodes is put into the page as text alone; the page's policy (trusted types)
// refuses anything else.

import * as api from "./api.js";
import { openGrant, openRevoke, prepareDialogs } from "./dialogs.js";
import * as words from "./words.js";
import { byId, fill, fillPrint, setHidden, setText } from "./page.js";

const ROUND_MS = 2000;
const CARDS_MAX = 60;
const ROWS_MAX = 200;
/// From so many on there is a field to find one.
const FIND_FROM = 8;

const state = { models: [], pending: [], asking: null, find: "", reads: true };
let timer;
let running = false;

async function round() {
  clearTimeout(timer);
  if (running || document.hidden) return;
  running = true;
  let pause = ROUND_MS;
  try {
    const [status, pending, discovered, node] = await Promise.all([
      api.read("peers/status"),
      api.read("peers/pending"),
      api.read("peers/discovered"),
      api.read("status"),
    ]);
    state.reads = true;
    show(status, pending.peers, discovered.peers, node);
    showLink("live", "Live");
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    if (error.code === "token_wrong") pause = 0;
    showFailure(error);
  } finally {
    running = false;
    showDoor();
    if (!document.hidden) timer = setTimeout(round, pause);
  }
}

function showFailure(error) {
  if (error.code === "token_wrong") {
    // Without one the page may still be allowed to look.
    api.forgetToken();
    sayAtDoor("That is not the token of this node.");
    return;
  }
  state.reads = error.code !== "token_missing";
  if (!state.reads) setHidden(byId("lists"), true);
  showLink("down", state.reads ? error.message : "Locked");
}

function sayAtDoor(text) {
  setHidden(byId("door-error"), !text);
  setText(byId("door-error"), text);
}

function showLink(now, text) {
  byId("link").dataset.state = now;
  setText(byId("link-words"), text);
  document.body.classList.toggle("stale", now === "down");
}

/// Whether this tab may change something, and how it gets to.
function showDoor() {
  setHidden(byId("door"), api.hasToken());
  document.body.classList.toggle("readonly", !api.hasToken());
  setText(byId("door-title"), state.reads ? "Read only" : "This page needs the token");
  setText(byId("door-why"), state.reads ? "To approve, limit or revoke" : "To see this node");
}

function show(status, pending, discovered, node) {
  const now = Date.now();
  setHidden(byId("lists"), false);
  setHidden(byId("problem"), !status.problem);
  setText(byId("problem-words"), status.problem ?? "");
  setHidden(byId("anyone"), !status.serves_anyone);
  state.models = (node.models ?? []).map((model) => model.name);
  showOwn(status, node);
  state.pending = pending;
  showPending(pending, now);
  showApproved(status.peers);
  showSeen(discovered, now);
}

function showOwn(status, node) {
  setText(byId("own-id"), words.label(status.node_id));
  setText(byId("own-key"), words.label(status.public_key));
  fillPrint(byId("own-print"), status.fingerprint);
  setText(byId("own-models"), words.labels(state.models, 4) || "No model");
  const others = status.peers.reduce((sum, peer) => sum + (peer.running ?? 0), 0);
  setText(byId("own-running"), others ? `${words.number(others)} running` : "None running");
  setText(byId("own-version"), words.label(node.version));
}

function showPending(peers, now) {
  // Who asks stands before who was only seen; within both the order never moves by itself.
  const order = (peer) => [peer.asked ? 0 : 1, peer.node_id, peer.public_key].join("\n");
  const sorted = [...peers].sort((a, b) => (order(a) < order(b) ? -1 : 1));
  const found = sorted.filter((peer) => matches(peer, state.find));
  setHidden(byId("pending-find"), peers.length < FIND_FROM);
  showCount("pending", peers.length);
  setHidden(byId("pending-empty"), peers.length > 0);
  const shown = list("pending-list", "pending-card", found.slice(0, CARDS_MAX), (card, peer) => {
    card.classList.toggle("asks", peer.asked > 0);
    fill(card, {
      state: peer.asked ? "Asks to use this node" : "Seen, has not asked",
      label: words.label(peer.node_id),
      sources: words.sources(peer.sources),
      asked: words.asked(peer, now),
      addresses: words.labels(peer.addresses, 3, "\n") || "\u2013",
      key: words.label(peer.public_key),
    });
    fillPrint(card.querySelector("[data-field=print]"), peer.fingerprint);
  });
  showMore("pending", found.length - shown);
  tellOfNew(peers);
}

/// A person who looks at another tab, or listens, hears of those who begin to ask.
function tellOfNew(peers) {
  const asking = peers.filter((peer) => peer.asked > 0);
  const before = state.asking ?? new Set(asking.map((peer) => peer.public_key));
  const fresh = asking.filter((peer) => !before.has(peer.public_key));
  state.asking = new Set(asking.map((peer) => peer.public_key));
  document.title = asking.length ? `(${asking.length}) arknet grid` : "arknet grid";
  if (fresh.length === 1) tell(`${words.label(fresh[0].node_id)} asks to use this node.`);
  else if (fresh.length > 1) tell(`${fresh.length} nodes ask to use this node.`);
}

function showApproved(peers) {
  showCount("approved", peers.length);
  setHidden(byId("approved-empty"), peers.length > 0);
  const title = (peer) => (peer.name || peer.node_id) + peer.public_key;
  const sorted = [...peers].sort((a, b) => title(a).localeCompare(title(b)));
  const shown = list("approved-list", "approved-card", sorted.slice(0, CARDS_MAX), (card, peer) => {
    const most = peer.permissions.max_concurrent_requests;
    card.classList.toggle("connected", peer.connected);
    fill(card, {
      state: words.connection(peer),
      label: words.label(peer.name || peer.node_id),
      alias: peer.name ? `Calls itself ${words.label(peer.node_id)}` : "",
      load: `${words.number(peer.running)} of ${words.number(most)} running`,
      waiting: peer.waiting ? `${words.number(peer.waiting)} waiting` : "",
      today: `${words.count(peer.requests_today, "request")}, ${words.count(peer.tokens_today, "token")}`,
      reputation: peer.reputation == null ? "Not known yet" : `${Math.round(peer.reputation * 100)} %`,
      rights: words.rights(peer.permissions),
      models: words.labels(peer.models, 6) || "Nothing",
      fingerprint: words.groups(peer.fingerprint).join(" "),
    });
    const meter = card.querySelector("meter");
    meter.max = Math.max(1, most);
    meter.value = peer.running;
  });
  showMore("approved", sorted.length - shown);
}

function showSeen(peers, now) {
  showCount("seen", peers.length);
  setHidden(byId("seen-empty"), peers.length > 0);
  setHidden(byId("seen-table"), peers.length === 0);
  const sorted = [...peers].sort((a, b) =>
    a.node_id + a.public_key < b.node_id + b.public_key ? -1 : 1,
  );
  const shown = list("seen-list", "seen-row", sorted.slice(0, ROWS_MAX), (row, peer) => {
    fill(row, {
      label: words.label(peer.node_id),
      fingerprint: words.groups(peer.fingerprint).join(" "),
      sources: words.sources(peer.sources),
      addresses: words.labels(peer.addresses, 2, "\n") || "\u2013",
      last: words.ago(peer.last_seen, now) || "\u2013",
      approved: peer.approved ? "Yes" : "No",
    });
  });
  showMore("seen", sorted.length - shown);
}

/// Makes the children of a list those of `peers`, one for each key. A child stays the same element
/// for as long as its peer is there, so that focus, selection and a click in progress stay with it.
function list(id, template, peers, update) {
  const parent = byId(id);
  const children = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const peer of peers) {
    const key = peer.public_key;
    const child = children.get(key) ?? byId(template).content.firstElementChild.cloneNode(true);
    children.delete(key);
    child.dataset.key = key;
    child.peer = peer;
    update(child, peer);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of children.values()) child.remove();
  return peers.length;
}

function matches(peer, text) {
  const digits = text.replace(/[\s:-]/g, "");
  const print = words.groups(peer.fingerprint).join("");
  return (
    !text ||
    [peer.node_id, peer.public_key].some((field) => String(field).toLowerCase().includes(text)) ||
    (digits !== "" && print.includes(digits))
  );
}

function showCount(id, n) {
  setText(byId(`${id}-count`), words.number(n));
  setHidden(byId(`${id}-count`), n === 0);
}

function showMore(id, n) {
  setHidden(byId(`${id}-more`), n <= 0);
  setText(byId(`${id}-more`), `${words.count(n, "more node")} not shown. arknet peers lists all.`);
}

let quiet;
function tell(text) {
  clearTimeout(quiet);
  setText(byId("told"), text);
  quiet = setTimeout(() => setText(byId("told"), ""), 8000);
}

function onClick(event) {
  const button = event.target.closest("button[data-do]");
  const peer = button?.closest("[data-key]")?.peer;
  if (!peer) return;
  if (!api.hasToken()) {
    byId("door").scrollIntoView({ block: "center" });
    byId("door-token").focus();
    return;
  }
  if (button.dataset.do === "revoke") openRevoke(peer);
  else openGrant(peer, state.models, button.dataset.do === "change" ? peer.permissions : null);
}

function onToken(event) {
  event.preventDefault();
  const field = byId("door-token");
  const good = api.keepToken(field.value);
  field.value = "";
  sayAtDoor(good ? "" : "That is not a token.");
  round();
}

function start() {
  api.takeToken();
  document.querySelector("main").addEventListener("click", onClick);
  byId("door-form").addEventListener("submit", onToken);
  byId("pending-find").querySelector("input").addEventListener("input", (event) => {
    state.find = event.target.value.trim().toLowerCase();
    showPending(state.pending, Date.now());
  });
  if (navigator.clipboard) {
    setHidden(byId("own-copy"), false);
    byId("own-copy").addEventListener("click", async () => {
      await navigator.clipboard.writeText(byId("own-key").textContent);
      tell("Copied.");
    });
  }
  // A tab that is open already gets its token by the same address.
  addEventListener("hashchange", () => {
    api.takeToken();
    round();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) showLink("wait", "Paused");
    round();
  });
  prepareDialogs((text) => {
    if (text) tell(text);
    showDoor();
    round();
  });
  round();
}

start();
