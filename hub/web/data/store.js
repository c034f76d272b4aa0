// The grid as the hub last told it, and who wants to know of changes.

import { merged } from "./patch.js";

const EMPTY = merged(undefined, {
  hub: {},
  hubs: {},
  nodes: {},
  models: {},
  queues: {},
  running: {},
  waiting: {},
  totals: {},
  words: {},
  history: { points: {} },
});

export class Store {
  #listeners = new Set();
  #aheadMs = 0;
  state = EMPTY;
  /** Whether a snapshot ever came. */
  isKnown = false;

  /** The broker's clock, by which all times of the grid are told (Unix ms). */
  now() {
    return Date.now() + this.#aheadMs;
  }

  /** Begin anew with a snapshot; what is as it was stays the same object. */
  replace(snapshot) {
    const parts = { ...snapshot };
    for (const name of Object.keys(EMPTY)) parts[name] ??= {};
    this.#become(unchanged(this.state, merged(undefined, parts)));
    this.isKnown = true;
  }

  apply(patch) {
    this.#become(merged(this.state, patch));
  }

  forget() {
    this.isKnown = false;
    this.#become(EMPTY);
  }

  onChange(listener) {
    this.#listeners.add(listener);
  }

  #become(state) {
    if (typeof state.at === "number") this.#aheadMs = state.at - Date.now();
    this.state = state;
    for (const listener of this.#listeners) listener(state);
  }
}

/** `next`, but with the objects of `former` wherever they say the same: after a reconnect little is drawn anew. */
function unchanged(former, next) {
  if (former === next || former === null || next === null) return next;
  if (typeof former !== "object" || typeof next !== "object" || Array.isArray(former) !== Array.isArray(next))
    return next;
  const names = Object.keys(next);
  let isSame = names.length === Object.keys(former).length;
  for (const name of names) {
    next[name] = unchanged(Object.hasOwn(former, name) ? former[name] : undefined, next[name]);
    isSame &&= next[name] === former[name];
  }
  return isSame ? former : next;
}
