// What waits, lane by lane.

import { h, named } from "../parts/dom.js";
import { since } from "../parts/since.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { whole } from "../words/format.js";

const LANES = ["retry", "interactive", "batch"];

export function queuesView({ store }) {
  const table = new KeyedTable({
    caption: "Lanes",
    sortBy: "waiting",
    empty: [
      h("h2", {}, "No lanes in use"),
      h(
        "p",
        {},
        "A lane appears with the first request for a model. Retries go before interactive requests, and those before batch.",
      ),
    ],
    columns: [
      {
        id: "model",
        label: "Model",
        of: (queue) => queue.model,
        sort: (queue) => queue.model,
        make: drawn((model) => named(model ?? "")),
      },
      { id: "lane", label: "Lane", of: (queue) => queue.lane ?? "–", sort: (queue) => LANES.indexOf(queue.lane) },
      {
        id: "waiting",
        label: "Waiting",
        kind: "num",
        of: (queue) => whole(queue.waiting ?? 0),
        sort: (queue) => queue.waiting ?? 0,
        isMostFirst: true,
      },
      {
        id: "running",
        label: "Running",
        kind: "num",
        of: (queue) => whole(queue.running ?? 0),
        sort: (queue) => queue.running ?? 0,
        isMostFirst: true,
      },
      {
        id: "oldest",
        label: "Oldest waits",
        kind: "num",
        of: (queue) => queue.oldest_at,
        sort: (queue) => -(queue.oldest_at ?? Infinity),
        isMostFirst: true,
        make: drawn((at) => (at ? since(at, store.now()) : "–")),
      },
    ],
  });
  return {
    title: "Queues",
    element: h("div", { class: "stack" }, table.element),
    update: (grid) => table.render(Object.entries(grid.queues)),
  };
}
