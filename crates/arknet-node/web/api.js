// The node API, and the token that changing something needs.

const PLACE = "arknet.token";
const PATIENCE_MS = 8000;

/// An answer that is no success. `words` are for a person.
export class ApiError extends Error {
  constructor(status, code, words) {
    super(words);
    this.status = status;
    this.code = code;
  }

  /// Whether another token would help.
  get wantsToken() {
    return this.status === 401;
  }
}

/// Takes the token out of the address, so that it stays in no history and no bookmark.
export function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  keepToken(found);
}

/// Keeps a token for this tab; false when the text cannot be one.
export function keepToken(text) {
  const token = text.trim();
  if (!/^[\x21-\x7e]+$/.test(token)) return false;
  sessionStorage.setItem(PLACE, token);
  return true;
}

export function hasToken() {
  return sessionStorage.getItem(PLACE) !== null;
}

export function forgetToken() {
  sessionStorage.removeItem(PLACE);
}

export const read = (path) => ask(path, {});

export const change = (path, body) =>
  ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

// Paths are relative, so that the page works below /arknet/ of a proxy too.
async function ask(path, options) {
  const headers = { Accept: "application/json", ...options.headers };
  const token = sessionStorage.getItem(PLACE);
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, {
      ...options,
      headers,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch (error) {
    const late = error.name === "TimeoutError";
    const words = late ? "The node did not answer in time." : "The node does not answer.";
    throw new ApiError(0, "unreachable", words);
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  const words = body?.error ? String(body.error) : `HTTP ${response.status}`;
  throw new ApiError(response.status, body?.code ?? "unknown", sentence(words));
}

function sentence(words) {
  const text = words[0].toUpperCase() + words.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
