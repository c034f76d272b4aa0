// Who may come in: clients' API keys and what they used, machines' tokens.

import { h, named } from "../parts/dom.js";
import { loading } from "../parts/loading.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { moment, whole } from "../words/format.js";
import { newKey } from "./new-key.js";
import { revokeButton } from "./revoke.js";
import { tokensPart } from "./tokens.js";
import { usagePart } from "./usage.js";
import { whyButton } from "./why.js";

export function keysView({ store, api }) {
  const tokens = tokensPart(api);
  const usage = usagePart(api);
  const table = new KeyedTable({
    caption: "API keys",
    sortBy: "name",
    empty: [
      h("h2", {}, "No API keys"),
      h(
        "p",
        {},
        "A hub that others can reach lets clients in by key. Create one here, or with ",
        h("code", {}, "ghub key create --name me"),
        ".",
      ),
    ],
    columns: columns({ store, api, onRevoked: () => load() }),
  });
  const { failed, load } = loading(async () => {
    const { keys } = await api.get("/api/keys");
    table.render(keys.map((key) => [key.id, key]));
  });
  const create = h(
    "button",
    { type: "button", class: "main", on: { click: () => newKey({ api, onMade: load }) } },
    "Create a key",
  );

  return {
    title: "Keys & usage",
    element: h(
      "div",
      { class: "stack" },
      failed,
      h(
        "section",
        { "aria-labelledby": "keys" },
        h("div", { class: "toolbar" }, h("h2", { id: "keys" }, "API keys"), create),
        table.element,
      ),
      tokens.element,
      usage.element,
    ),
    show() {
      load();
      tokens.load();
      usage.load();
    },
    update() {},
  };
}

function columns({ store, api, onRevoked }) {
  const revoking = ({ id, name }) =>
    revokeButton({
      api,
      kind: "key",
      path: "/api/keys",
      id,
      name,
      consequence: "It lets nobody in any more, and what waits or runs of it ends within two seconds.",
      onDone: onRevoked,
    });
  return [
    {
      id: "name",
      label: "Name",
      of: (key) => key.name,
      sort: (key) => key.name,
      make: drawn((name, key) => [named(name), h("code", { class: "under" }, key.id)]),
    },
    {
      id: "models",
      label: "Models",
      of: (key) => (key.models ?? []).join(", ") || "all",
      make: drawn((models) => named(models)),
    },
    { id: "lane", label: "Lane", of: (key) => key.lane, sort: (key) => key.lane },
    limit("rpm", "Requests/min"),
    limit("tpm", "Tokens/min"),
    limit("concurrency", "At once"),
    {
      id: "expires",
      label: "Expires",
      of: (key) => expiry(key, store.now()),
      sort: (key) => key.expires_at ?? Infinity,
    },
    {
      id: "created",
      label: "Created",
      of: (key) => moment(key.created_at),
      sort: (key) => key.created_at ?? 0,
      isMostFirst: true,
    },
    {
      id: "actions",
      label: "Actions",
      kind: "actions",
      of: (key) => key.id,
      make: drawn((_, key) => [whyButton(api, key.id), revoking(key)]),
    },
  ];
}

function limit(id, label) {
  return {
    id,
    label,
    kind: "num",
    of: (key) => (key[id] ? whole(key[id]) : "no limit"),
    sort: (key) => key[id] ?? Infinity,
  };
}

function expiry({ expires_at: at }, now) {
  if (!at) return "never";
  return at < now ? `expired ${moment(at)}` : moment(at);
}
