// What waits, lane by lane.

import { amount, lasting, name } from "../parts/columns.js";
import { h } from "../parts/dom.js";
import { KeyedTable } from "../parts/table.js";

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
      name("model", "Model"),
      { id: "lane", label: "Lane", of: (queue) => queue.lane ?? "–", sort: (queue) => LANES.indexOf(queue.lane) },
      amount("waiting", "Waiting"),
      amount("running", "Running"),
      lasting("oldest_at", "Oldest waits", () => store.now()),
    ],
  });
  return {
    title: "Queues",
    element: h("div", { class: "stack" }, table.element),
    update: (grid) => table.render(Object.entries(grid.queues)),
  };
}
