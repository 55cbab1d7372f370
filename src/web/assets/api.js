// Requests to the server that this page came from.

/** What the server refuses, in its own words: `status`, `body`, and a message that says the remedy if there is one. */
export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    const said = [body.error, body.field && `${body.field} ${body.reason ?? ""}`.trim(), !body.field && body.reason, body.hint];
    super(said.filter(Boolean).join(": ") || `the server answered ${status}`);
    Object.assign(this, { status, body, retryAfter });
  }
}

/** The server cannot be reached at all. */
export class Away extends Error {
  constructor() {
    super("the server cannot be reached");
  }
}

let token = null;
let refused = () => {};

/** Whose token requests carry from now on, and who is told when the server does not take it any more. */
export function speakAs(secret, whenRefused) {
  token = secret;
  refused = whenRefused;
}

export const bearer = () => token;

/** Asks; the JSON of the answer. A second argument with `body` makes it a POST. */
export async function ask(path, { method, body, signal } = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const spoken = token;
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      body: body === undefined ? undefined : JSON.stringify(body),
      headers, signal, cache: "no-store", credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away();
  }
  const text = await response.text();
  const told = parsed(text);
  if (response.ok) return told;
  if (response.status === 401 && spoken && spoken === token) refused();
  throw new Refusal(response.status, told ?? {}, Number(response.headers.get("retry-after")) || null);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A query string of what is there. */
export function query(members) {
  const kept = Object.entries(members).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}

/** An idempotency key that nobody else has; also where the page did not come over TLS and there is no `randomUUID`. */
export const minted = () => `canvas-${Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
