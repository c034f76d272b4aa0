// Calls of the hub's own API, with its errors in words.

const CALL_LIMIT_MS = 20_000; // a hub answers in milliseconds, or says that the broker is away

/** What a hub refused, or that it didn't answer (status 0). */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "" } = {}) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class Api {
  /** `onSignedOut` is called when a hub wants a token, or another one. */
  constructor(session, onSignedOut) {
    this.session = session;
    this.onSignedOut = onSignedOut;
  }

  get(path) {
    return this.call("GET", path);
  }

  post(path, body) {
    return this.call("POST", path, body);
  }

  delete(path) {
    return this.call("DELETE", path);
  }

  /** The answer's JSON; throws ApiError. */
  async call(method, path, body) {
    const headers = { ...this.session.headers, ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
    let response;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        signal: AbortSignal.timeout(CALL_LIMIT_MS),
      });
    } catch {
      throw new ApiError("The hub does not answer.");
    }
    if (!response.ok) {
      const error = await refusal(response);
      if (error.status === 401) this.onSignedOut(error);
      throw error;
    }
    try {
      return await response.json();
    } catch {
      throw new ApiError("The hub's answer could not be read.", { status: response.status });
    }
  }
}

/** What a response that is no success says, as an ApiError. */
export async function refusal(response) {
  const { status } = response;
  try {
    const said = (await response.json()).error;
    if (typeof said?.message === "string") return new ApiError(said.message, { status, code: String(said.code ?? "") });
  } catch {
    // Not one of the hub's own answers: something between here and there gave it.
  }
  const line = `${status} ${response.statusText}`.trim();
  return new ApiError(`The answer was ${line}.`, { status });
}

/** A path below one of the API's, for names that other people chose. */
export function below(path, ...names) {
  return [path, ...names.map(encodeURIComponent)].join("/");
}
