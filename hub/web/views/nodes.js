// Every machine: how it stands and why, what it has, what it runs, and orders to it.

import { below } from "../data/api.js";
import { stateOf } from "../parts/badges.js";
import { h, named, setText } from "../parts/dom.js";
import { gpuCell } from "../parts/gpus.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { attempt, say } from "../parts/toasts.js";
import { reasonsInWords, STATES } from "../words/reasons.js";
import { addMachine } from "./add-machine.js";
import { firstSteps } from "./first-steps.js";
import { whyButton } from "./why.js";

const ORDERS = {
  drain: "finishes what it runs and takes no more",
  pause: "takes no more work until it is told to resume",
  resume: "may take work again",
};
const ALL = "all";
const ORDER = [...STATES.keys()];

export function nodesView({ store, api }) {
  let runsByNode = new Map();
  const table = new KeyedTable({
    caption: "Nodes",
    class: "nodes",
    sortBy: "node",
    empty: firstSteps(),
    columns: columns({ store, api, runsAt: (node) => runsByNode.get(node) }),
  });
  const filter = nodeFilter(table, store);
  const add = h(
    "button",
    { type: "button", class: "main", on: { click: () => addMachine({ store, api }) } },
    "Add a machine",
  );
  return {
    title: "Nodes",
    element: h("div", { class: "stack" }, h("div", { class: "toolbar" }, filter.elements, add), table.element),
    update(grid) {
      runsByNode = runs(grid.running);
      table.render(Object.entries(grid.nodes));
      filter.count();
    },
  };
}

function columns({ store, api, runsAt }) {
  return [
    {
      id: "node",
      label: "Node",
      of: nodeLine,
      sort: (_, key) => key,
      make: drawn((_, node, key) => nameOf(node, key, store.state.hub.version)),
    },
    {
      id: "state",
      label: "State",
      of: (node) => `${node.state} ${node.reasons}`,
      sort: (node) => ORDER.indexOf(node.state),
      make: drawn((_, node) => stateOf(node, store.state.words)),
    },
    {
      id: "gpus",
      label: "GPUs",
      of: (node) => node.gpus,
      sort: (node) => mostUsed(node),
      isMostFirst: true,
      make: gpuCell,
    },
    {
      id: "models",
      label: "Models",
      of: (node) => JSON.stringify([node.models, node.loaded]),
      sort: (node) => (node.models ?? []).length,
      isMostFirst: true,
      make: drawn((_, node) => modelsOf(node)),
    },
    {
      id: "slots",
      label: "Runs",
      of: (node, key) => `${node.running ?? 0}/${node.slots ?? 0} ${runsAt(key) ?? ""}`,
      sort: (node) => node.running ?? 0,
      isMostFirst: true,
      make: drawn((_, node, key) => runsOf(node, runsAt(key))),
    },
    {
      id: "actions",
      label: "Actions",
      kind: "actions",
      of: ordersFor,
      make: drawn((orders, _, key) => [
        whyButton(api, key),
        ...orders.split(" ").map((order) => orderButton(api, order, key)),
      ]),
    },
  ];
}

function orderButton(api, order, node) {
  const label = order[0].toUpperCase() + order.slice(1);
  const button = h("button", { type: "button", "aria-label": `${label} ${node}` }, label);
  button.addEventListener("click", async () => {
    const told = await attempt(button, () => api.post(`${below("/api/nodes", node)}/${order}`));
    if (told) say(`${node} was told to ${order}: it ${ORDERS[order]}.`);
  });
  return button;
}

/** What chooses the rows of the table, and their order where it has no heads; `count()` tells how many it leaves. */
function nodeFilter(table, store) {
  const text = h("input", {
    type: "search",
    id: "node-filter",
    autocomplete: "off",
    placeholder: "Name, model, GPU, reason",
  });
  const state = h(
    "select",
    { id: "node-state" },
    [ALL, ...ORDER].map((one) => h("option", { value: one }, one === ALL ? "All states" : one)),
  );
  const order = h(
    "select",
    { id: "node-sort" },
    table.columns.filter((column) => column.sort).map(({ id, label }) => h("option", { value: id }, label)),
  );
  const shown = h("p", { class: "muted shown", role: "status" });

  function filter() {
    const wanted = text.value.trim().toLowerCase();
    table.accepts = (node, key) =>
      (state.value === ALL || node.state === state.value) &&
      (!wanted || wordsOf(node, key, store.state.words).includes(wanted));
    table.refresh();
    count();
  }

  function count() {
    const all = Object.keys(store.state.nodes).length;
    const some = table.body.children.length;
    setText(shown, some === all ? "" : `${some} of ${all} nodes`);
  }

  text.addEventListener("input", filter);
  state.addEventListener("change", filter);
  order.addEventListener("change", () => table.sort(order.value));
  const label = (input, said) => h("label", { for: input.id, class: "unseen" }, said);
  const elements = [
    [label(text, "Filter nodes"), text],
    [label(state, "State"), state],
    [label(order, "Sort by"), h("span", { class: "only-narrow" }, order)],
    shown,
  ];
  return { elements, count };
}

/** Node → what it runs, as "smollm2:135m ×2". */
function runs(running) {
  const counts = new Map();
  for (const { node, model } of Object.values(running)) {
    const models = counts.get(node) ?? new Map();
    counts.set(node, models.set(model, (models.get(model) ?? 0) + 1));
  }
  return new Map(
    [...counts].map(([node, models]) => [
      node,
      [...models].map(([model, n]) => (n > 1 ? `${model} ×${n}` : model)).join(", "),
    ]),
  );
}

function nodeLine(node) {
  return [node.hostname, node.version, node.engine?.kind, node.engine?.version, node.public_url].join("\n");
}

function nameOf({ hostname, version, engine, public_url: url }, key, hubVersion) {
  const said = [
    hostname === key ? null : hostname,
    [engine?.kind, engine?.version].filter(Boolean).join(" "),
    version !== hubVersion && `ghub ${version}`,
    url,
  ];
  return [named(key), h("span", { class: "under" }, said.filter(Boolean).join(" · "))];
}

function modelsOf({ models = [], loaded = [] }) {
  if (!models.length) return h("span", { class: "muted" }, "none");
  const warm = new Set(loaded);
  const chips = models.map((model) =>
    h(
      "li",
      { class: warm.has(model) ? "chip loaded" : "chip" },
      named(model),
      warm.has(model) && h("span", { class: "tag" }, "loaded"),
    ),
  );
  return h("ul", { class: "chips" }, chips);
}

function runsOf({ running = 0, slots = 0 }, what) {
  return [h("span", {}, `${running} of ${slots}`), what ? h("span", { class: "under" }, named(what)) : null];
}

function ordersFor({ state, reasons = [] }) {
  if (state === "draining") return "resume";
  return reasons.includes("paused") ? "resume drain" : "drain pause";
}

function mostUsed({ gpus = [] }) {
  return Math.max(0, ...gpus.map((gpu) => gpu.utilization_pct ?? 0));
}

function wordsOf({ hostname = "", state = "", models = [], gpus = [], reasons = [] }, key, words) {
  return [key, hostname, state, ...models, ...gpus.map((gpu) => gpu.name), ...reasons, reasonsInWords(reasons, words)]
    .join("\n")
    .toLowerCase();
}
