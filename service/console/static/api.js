/**
 * The service's public interface, with what can go wrong put into words.
 *
 * The API key lives in this module's memory alone: not in sessionStorage, where every script of this origin could read
 * it and where it would outlast the page it was typed into. The price is that a reload asks for it again.
 */

const PATIENCE = 90_000; // ms; above the longest deadline that the service takes

let key = null;

export const hasKey = () => key !== null;
export const useKey = (secret) => { key = secret || null; };

/**
 * `kind`: "down" (nobody answered), "key" (none, or a wrong one), "problem" (the service said no and why). `passing`:
 * the same question may be answered in a while.
 */
export class Failure extends Error {
  constructor(kind, title, detail, { status = null, errors = [], retryAfter = null, requestId = null } = {}) {
    super(title);
    const passing = status === null || status === 408 || status === 429 || status >= 500;
    Object.assign(this, { kind, title, detail, errors, retryAfter, requestId, passing });
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  const patience = AbortSignal.timeout(PATIENCE);
  const signal = options.signal ? AbortSignal.any([options.signal, patience]) : patience;
  let response;
  try {
    response = await fetch(path, { ...options, headers, signal, cache: "no-store", redirect: "error" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure("down", "The service does not answer", "It may be starting, or stopped, or the network is away.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy in between, which speaks HTML
  }
  const kind = response.status === 401 || response.status === 403 ? "key" : "problem";
  return new Failure(kind, problem.title ?? `The service answered ${response.status}`,
    problem.detail ?? "It did not say why.", {
      status: response.status,
      errors: problem.errors ?? [],
      retryAfter: response.headers.get("retry-after"),
      requestId: problem.request_id ?? response.headers.get("x-request-id"),
    });
}

export const bundle = async () => (await ask("bundle")).json();

export const pages = async (prefix, limit, signal) =>
  (await (await ask(`pages?${new URLSearchParams({ prefix, limit })}`, { signal })).json()).pages;

export const predict = async (body, signal) => (await ask("predict", {
  method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal,
})).json();

export const report = async () => (await ask("report")).blob();

export async function ready() {
  try {
    await ask("readyz");
    return true;
  } catch (failure) {
    if (failure.kind === "problem") return false;
    throw failure;
  }
}
