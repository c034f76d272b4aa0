// Tokens that let machines join, and whom each let in.

import { h, named } from "../parts/dom.js";
import { loading } from "../parts/loading.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { counted, moment } from "../words/format.js";
import { revokeButton } from "./revoke.js";

const OF_THE_ENVIRONMENT = "GHUB_HUB_PROVIDER_TOKENS";

export function tokensPart(api) {
  const table = new KeyedTable({
    caption: "Tokens of machines",
    sortBy: "name",
    empty: h(
      "p",
      {},
      "No tokens. Add a machine in the view Nodes, or with ",
      h("code", {}, "ghub token create NAME"),
      ", makes one.",
    ),
    columns: [
      {
        id: "name",
        label: "Name",
        of: (token) => token.name,
        sort: (token) => token.name,
        make: drawn((name, token) => [named(name), h("code", { class: "under" }, token.id)]),
      },
      {
        id: "nodes",
        label: "Let in",
        of: (token) => token.nodes.join(", ") || "nobody yet",
        sort: (token) => token.nodes.length,
        isMostFirst: true,
        make: drawn((nodes) => named(nodes)),
      },
      {
        id: "created",
        label: "Created",
        of: (token) => (token.created_at ? moment(token.created_at) : "by the hub's environment"),
        sort: (token) => token.created_at ?? 0,
        isMostFirst: true,
      },
      {
        id: "actions",
        label: "Actions",
        kind: "actions",
        of: (token) => `${token.id} ${token.nodes.length}`,
        make: drawn((_, token) => (token.created_at ? revoking(token) : h("code", {}, OF_THE_ENVIRONMENT))),
      },
    ],
  });
  const { failed, load } = loading(async () => {
    const { tokens } = await api.get("/api/tokens");
    table.render(tokens.map((token) => [token.id, token]));
  });

  function revoking({ id, name, nodes }) {
    return revokeButton({
      api,
      kind: "token",
      path: "/api/tokens",
      id,
      name,
      consequence: `It lets no machine in any more${nodes.length ? `, and ${counted(nodes.length, "node")} that it let in will be cut off: ${nodes.join(", ")}.` : "."}`,
      outcome: ({ nodes: cut }) => (cut.length ? ` Cut off: ${cut.join(", ")}.` : ""),
      onDone: load,
    });
  }

  return {
    element: h(
      "section",
      { "aria-labelledby": "tokens" },
      h("h2", { id: "tokens" }, "Tokens of machines"),
      failed,
      table.element,
    ),
    load,
  };
}
