// What the page says: values of the node API as words. Nothing here touches the page.

const TEXT_CHARS_MAX = 80;

const SOURCES = {
  connected: "its connection",
  mdns: "this network",
  registry: "a registry",
  static: "its address",
  tunnel: "a tunnel",
};

/// A text of somebody else: what is invisible or turns the direction of writing around becomes
/// visible, and nothing is longer than a label should be.
export function label(text) {
  const chars = Array.from(String(text ?? ""));
  const shown = chars.slice(0, TEXT_CHARS_MAX).map((char) => {
    const code = char.codePointAt(0).toString(16);
    return /[\p{C}\p{Zl}\p{Zp}]/u.test(char) ? `\\u{${code}}` : char;
  });
  return shown.join("") + (chars.length > TEXT_CHARS_MAX ? "\u2026" : "");
}

/// The first of a list, and how many more there are.
export function labels(list, most, between = ", ") {
  const all = list ?? [];
  const more = all.length - most;
  const shown = all.slice(0, most).map(label);
  return shown.join(between) + (more > 0 ? `${between}and ${more} more` : "");
}

/// The groups of a fingerprint, or the whole text as one where it has another form.
export function groups(fingerprint) {
  const digits = String(fingerprint ?? "").replace(/[\s:-]/g, "");
  return /^[0-9a-f]{32}$/i.test(digits) ? digits.match(/.{4}/g) : [label(fingerprint)];
}

export const number = (n) => new Intl.NumberFormat("en").format(n ?? 0);

export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

export function ago(moment, now) {
  const then = Date.parse(moment ?? "");
  if (Number.isNaN(then)) return "";
  const seconds = Math.max(0, Math.round((now - then) / 1000));
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `on ${new Date(then).toISOString().slice(0, 10)}`;
}

export function sources(list) {
  const words = (list ?? []).map((source) => SOURCES[source] ?? label(source));
  const text = words.join(", ");
  return text ? text[0].toUpperCase() + text.slice(1) : "\u2013";
}

export function asked(peer, now) {
  if (!peer.asked) return "Not yet";
  return `${count(peer.asked, "time")}, ${ago(peer.asked_at, now)}`.replace(/, $/, "");
}

/// What a grant allows, as one sentence after "May".
export function rights(permissions) {
  const may = [];
  if (permissions.can_request_inference) may.push("send questions");
  if (permissions.can_pull_models) may.push("copy models");
  if (!may.length) return "nothing: every right is off";
  const shared = permissions.models_shared ?? [];
  const models = shared.includes("*") ? "all models" : labels(shared, 6) || "no model";
  const limits = [`${number(permissions.max_concurrent_requests)} at a time`];
  for (const [key, words] of [
    ["requests_per_minute", "requests a minute"],
    ["requests_per_day", "requests a day"],
    ["tokens_per_minute", "tokens a minute"],
    ["tokens_per_day", "tokens a day"],
  ]) {
    if (permissions[key] != null) limits.push(`${number(permissions[key])} ${words}`);
  }
  return `${may.join(" and ")}: ${models}; ${limits.join(", ")}`;
}

export function connection(peer) {
  if (!peer.connected) return "Not connected";
  return peer.rtt_ms == null ? "Connected" : `Connected, ${peer.rtt_ms.toFixed(1)} ms`;
}
