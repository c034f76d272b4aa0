// A node's state and why it takes no work, in the words that the hub sends along: the command line says the same.

export const STATES = new Map([
  ["idle", "Idle"],
  ["busy", "Busy"],
  ["draining", "Draining"],
  ["paused", "Paused"],
]);

/** All reasons of a node as what goes on after its name; empty if there is none. `words`: by code, as in the snapshot. */
export function reasonsInWords(codes = [], words = {}) {
  return codes.map((code) => words[code] ?? `takes no work: ${code}`).join("; ");
}

/** A node's state as a word. */
export function stateInWords(state) {
  return STATES.get(state) ?? String(state ?? "unknown");
}
