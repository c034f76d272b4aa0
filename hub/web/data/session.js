// What this tab remembers, and forgets when it is closed: the admin token, and the playground's API key.

const ADMIN_TOKEN = "ghub-admin-token";
const API_KEY = "ghub-api-key";

export class Session {
  #adminToken = read(ADMIN_TOKEN);
  #apiKey = read(API_KEY);

  get adminToken() {
    return this.#adminToken;
  }

  set adminToken(token) {
    this.#adminToken = token;
    write(ADMIN_TOKEN, token);
  }

  get apiKey() {
    return this.#apiKey;
  }

  set apiKey(key) {
    this.#apiKey = key;
    write(API_KEY, key);
  }

  /** Headers of a call behind the admin door; none where no token is known, which a hub's own machine doesn't need. */
  get headers() {
    return bearer(this.adminToken);
  }
}

/** The header that shows a secret; nothing for an empty one. */
export function bearer(secret) {
  return secret ? { Authorization: `Bearer ${secret}` } : {};
}

function read(name) {
  try {
    return sessionStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

function write(name, value) {
  try {
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch {
    // Where the browser keeps nothing, the next load asks again.
  }
}
