// Speaks to the API. The session's cookie goes along by itself.

/** An answer that is no success. `detail` is what the API says about it. */
export class ApiError extends Error {
  /** @param {number} status @param {string} detail @param {number} [retryAfter] seconds @param {any} [body] */
  constructor(status, detail, retryAfter, body = {}) {
    super(detail);
    this.status = status;
    this.body = body;
    this.retryAfter = retryAfter;
  }
}

/** Whether the place that is read has no column for what was asked: a table is as it is. @param {unknown} error */
export const isLacking = (error) => error instanceof ApiError && [400, 404].includes(error.status) && error.message.includes("has no column for");

/** What an answer is, or something else where the place has no column for it. @template T @param {Promise<any>} answer @param {T} otherwise @returns {Promise<any>} */
export const orElse = (answer, otherwise) => answer.catch((error) => {
  if (isLacking(error)) return otherwise;
  throw error;
});

/** @typedef {{ user: string, role: "user" | "viewer" | "admin" | "ingest", expires: string | null }} Me */
/** @typedef {Record<string, any>} Row an event as `/api/logs` lists it */
/** @typedef {Record<string, string | number | undefined>} Params */

/** Says that the page itself asks, and not a link or another site. */
export const OWN = { "x-requested-with": "weir-page" };

/** @type {() => void} */
let expired = () => {};

/** What happens when the session has ended. @param {() => void} listener */
export function onExpired(listener) {
  expired = listener;
}

/** The address of a question, without what is empty. @param {string} path @param {Params} [params] */
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** @param {Response} response */
async function failure(response) {
  let body;
  try {
    body = await response.json();
  } catch {
    // What stands between the page and the agent may answer with something else.
  }
  const after = Number(response.headers.get("retry-after")) || undefined;
  return new ApiError(response.status, body?.detail || response.statusText || `HTTP ${response.status}`, after, body);
}

/**
 * Asks, and gives the answer if it is a success.
 * @param {string} path @param {Params} [params] @param {RequestInit & { quiet?: boolean }} [init]
 */
export async function ask(path, params, { quiet = false, headers, ...init } = {}) {
  let response;
  try {
    response = await fetch(address(path, params), { credentials: "same-origin", headers: { ...OWN, ...headers }, ...init });
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw new ApiError(0, "");
  }
  if (response.ok) return response;
  if (response.status === 401 && !quiet) expired();
  throw await failure(response);
}

/** @param {string} path @param {Params} [params] @param {RequestInit & { quiet?: boolean }} [init] @returns {Promise<any>} */
export async function get(path, params, init) {
  return (await ask(path, params, init)).json();
}

/** @param {string} path @param {Params} [params] @param {RequestInit} [init] */
export async function getText(path, params, init) {
  return (await ask(path, params, init)).text();
}

/** @param {string} path @param {string} [method] @param {any} [body] @param {boolean} [quiet] */
export async function send(path, method = "POST", body = undefined, quiet = false) {
  const headers = body === undefined ? undefined : { "content-type": "application/json" };
  const response = await ask(path, {}, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), quiet });
  return response.json();
}

/** @returns {Promise<Me>} */
export const me = () => get("api/me", {}, { quiet: true });
/** @param {{ token: string } | { user: string, password: string }} proof @returns {Promise<Me>} */
export const login = (proof) => send("api/login", "POST", proof, true);
export const logout = () => send("api/logout");
