// Columns that many tables have. Each value stands in its item under the column's id.

import { whole } from "../words/format.js";
import { named } from "./dom.js";
import { since } from "./since.js";
import { drawn } from "./table.js";

/** How many there are; none where nothing is said. */
export function amount(id, label) {
  const of = (item) => item[id] ?? 0;
  return { id, label, kind: "num", of: (item) => whole(of(item)), sort: of, isMostFirst: true };
}

/** A name that somebody else chose; `of` tells it where it is not in the item. */
export function name(id, label, of = (item) => item[id]) {
  return { id, label, of, sort: of, make: drawn((said) => named(said ?? "–")) };
}

/** For how long something has lasted that began at this moment. `now()`: by the broker's clock, Unix ms. */
export function lasting(id, label, now) {
  return {
    id,
    label,
    kind: "num",
    of: (item) => item[id],
    sort: (item) => -(item[id] ?? Infinity),
    isMostFirst: true,
    make: drawn((at) => (at ? since(at, now()) : "–")),
  };
}
