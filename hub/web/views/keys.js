// Clients' API keys and what they used.

import { below } from "../data/api.js";
import { confirmed } from "../parts/dialog.js";
import { h, named } from "../parts/dom.js";
import { KeyedTable, drawn } from "../parts/table.js";
import { attempt, say } from "../parts/toasts.js";
import { moment, whole } from "../words/format.js";
import { newKey } from "./new-key.js";
import { usagePart } from "./usage.js";
import { whyButton } from "./why.js";

export function keysView({ store, api }) {
  const usage = usagePart(api);
  const limit = (id, label) => ({
    id,
    label,
    kind: "num",
    of: (key) => (key[id] ? whole(key[id]) : "no limit"),
    sort: (key) => key[id] ?? Infinity,
  });
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
    columns: [
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
        make: drawn((_, key) => [whyButton(api, key.id), revokeButton(key)]),
      },
    ],
  });
  const failed = h("p", { class: "notice error", hidden: true });
  const create = h(
    "button",
    { type: "button", class: "main", on: { click: () => newKey({ api, onMade: load }) } },
    "Create a key",
  );

  function revokeButton({ id, name }) {
    const button = h("button", { type: "button", class: "danger", "aria-label": `Revoke ${name}` }, "Revoke");
    button.addEventListener("click", async () => {
      const isSure = await confirmed(
        `Revoke the key ${name}?`,
        "It lets nobody in any more, and what waits or runs of it ends within two seconds. This can't be taken back.",
        "Revoke it",
      );
      if (!isSure) return;
      const told = await attempt(button, () => api.delete(below("/api/keys", id)));
      if (told) say(`The key ${name} is revoked.`);
      await load();
    });
    return button;
  }

  async function load() {
    try {
      const { keys } = await api.get("/api/keys");
      table.render(keys.map((key) => [key.id, key]));
      failed.hidden = true;
    } catch (error) {
      failed.textContent = error.message;
      failed.hidden = false;
    }
  }

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
      usage.element,
    ),
    show() {
      load();
      usage.load();
    },
    update() {},
  };
}

function expiry({ expires_at: at }, now) {
  if (!at) return "never";
  return at < now ? `expired ${moment(at)}` : moment(at);
}
