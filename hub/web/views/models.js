// Every model: who serves it, where it is loaded, and what waits for it.

import { badge } from "../parts/badges.js";
import { amount, name } from "../parts/columns.js";
import { h, named } from "../parts/dom.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { whyButton } from "./why.js";

const MOST_NAMED = 6;

export function modelsView({ api }) {
  const table = new KeyedTable({
    caption: "Models",
    sortBy: "model",
    empty: [
      h("h2", {}, "No models"),
      h(
        "p",
        {},
        "A model appears here as soon as a machine that serves it joins. Load one into its engine, e.g. ",
        h("code", {}, "ollama pull llama3.2"),
        ".",
      ),
    ],
    columns: [
      name("model", "Model", (_, key) => key),
      { id: "state", label: "State", of: stateOf, sort: stateOf, make: drawn((state) => badge(...WORDS[state])) },
      {
        id: "loaded",
        label: "Loaded on",
        of: (model) => JSON.stringify(model.loaded ?? []),
        make: drawn((_, model) => loadedOn(model)),
      },
      amount("nodes", "Nodes"),
      amount("idle", "Idle"),
      amount("waiting", "Waiting"),
      amount("running", "Running"),
      {
        id: "actions",
        label: "Actions",
        kind: "actions",
        of: (_, key) => key,
        make: drawn((key) => whyButton(api, key)),
      },
    ],
  });
  return {
    title: "Models",
    element: h("div", { class: "stack" }, table.element),
    update: (grid) => table.render(Object.entries(grid.models)),
  };
}

const WORDS = {
  none: ["No node", "dead"],
  free: ["Free", "idle"],
  taken: ["All taken", "busy"],
};

function stateOf({ nodes = 0, idle = 0 }) {
  if (!nodes) return "none";
  return idle ? "free" : "taken";
}

function loadedOn({ loaded = [] }) {
  if (!loaded.length) return h("span", { class: "muted" }, "nowhere");
  const more = loaded.length - MOST_NAMED;
  const chips = loaded.slice(0, MOST_NAMED).map((node) => h("li", { class: "chip" }, named(node)));
  return h("ul", { class: "chips" }, chips, more > 0 && h("li", { class: "chip muted" }, `and ${more} more`));
}
