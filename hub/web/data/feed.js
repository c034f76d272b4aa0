// Follows `/api/overview/stream` as long as the page is open, through restarts of hubs and cut connections.

import { ApiError, refusal } from "./api.js";
import { readEvents } from "./sse.js";

const PATH = "/api/overview/stream";
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const SILENCE_LIMIT_MS = 40_000; // the hub says something at least every 15 s
const ANSWER_LIMIT_MS = 15_000;

/**
 * `onStatus({ state, error })`: `connecting`, `live`, `stale` (the hub lives and has nothing new to tell), `reconnecting`
 * or `signed-out`.
 */
export class Feed {
  #running = null;
  #wake = () => {};

  constructor(session, store, onStatus) {
    this.session = session;
    this.store = store;
    this.onStatus = onStatus;
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake());
  }

  /** Begin, or begin anew with the token that the session has now. */
  start() {
    this.stop();
    this.#running = new AbortController();
    this.#follow(this.#running.signal);
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
    this.#wake();
  }

  async #follow(signal) {
    let pauseMs = FIRST_PAUSE_MS;
    this.onStatus({ state: "connecting" });
    while (!signal.aborted) {
      let error = null;
      try {
        await this.#read(signal, (status) => {
          pauseMs = FIRST_PAUSE_MS;
          this.onStatus(status);
        });
      } catch (failure) {
        error = failure instanceof ApiError ? failure : new ApiError("The hub does not answer.");
      }
      if (signal.aborted) return;
      if (error?.status === 401) {
        this.onStatus({ state: "signed-out", error });
        return;
      }
      this.onStatus({ state: "reconnecting", error });
      await this.#pause(pauseMs * (0.75 + Math.random() / 2));
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  async #read(signal, onNews) {
    const attempt = new AbortController();
    const end = () => attempt.abort();
    let former = "";
    signal.addEventListener("abort", end);
    let watch = setTimeout(end, ANSWER_LIMIT_MS);
    const hear = () => {
      clearTimeout(watch);
      watch = setTimeout(end, SILENCE_LIMIT_MS);
    };
    try {
      const headers = { ...this.session.headers, Accept: "text/event-stream" };
      const response = await fetch(PATH, { headers, cache: "no-store", signal: attempt.signal });
      if (!response.ok) throw await refusal(response);
      hear();
      await readEvents(response.body, {
        onBytes: hear,
        onEvent: (type, data) => {
          if (signal.aborted) return;
          const told = JSON.parse(data);
          if (type === "snapshot") this.store.replace(told);
          else if (type === "patch") this.store.apply(told);
          const state = type === "trouble" ? "stale" : "live";
          const error = type === "trouble" ? new ApiError(told.message, told) : null;
          if (state === former) return;
          former = state;
          onNews({ state, error });
        },
      });
    } finally {
      clearTimeout(watch);
      signal.removeEventListener("abort", end);
      attempt.abort();
    }
  }

  /** Wait, until somebody has reason to believe that it is worth another try. */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
