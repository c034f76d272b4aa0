// Requests that run and that wait.

import { below } from "../data/api.js";
import { badge } from "../parts/badges.js";
import { confirmed } from "../parts/dialog.js";
import { h, named, setText } from "../parts/dom.js";
import { since } from "../parts/since.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { attempt, say } from "../parts/toasts.js";
import { counted, rate, shortId, whole } from "../words/format.js";
import { whyButton } from "./why.js";

export function requestsView({ store, api }) {
  const id = {
    id: "id",
    label: "Request",
    of: (_, key) => key,
    make: drawn((key) => h("code", { title: key, class: "id" }, shortId(key))),
  };
  const model = {
    id: "model",
    label: "Model",
    of: (request) => request.model,
    sort: (request) => request.model,
    make: drawn((name) => named(name ?? "")),
  };
  const lane = { id: "lane", label: "Lane", of: (request) => request.lane ?? "–", sort: (request) => request.lane };
  const key = {
    id: "key",
    label: "Key",
    of: (request) => request.key ?? "–",
    sort: (request) => request.key,
    make: drawn((name) => h("code", {}, name)),
  };
  const actions = {
    id: "actions",
    label: "Actions",
    kind: "actions",
    of: (_, name) => name,
    make: drawn((name) => [whyButton(api, name), cancelButton(name)]),
  };
  const lasts = (field, label) => ({
    id: field,
    label,
    kind: "num",
    of: (request) => request[field],
    sort: (request) => -(request[field] ?? Infinity),
    isMostFirst: true,
    make: drawn((at) => (at ? since(at, store.now()) : "–")),
  });

  const running = new KeyedTable({
    caption: "Running requests",
    sortBy: "claimed_at",
    empty: h("p", {}, "Nothing runs now."),
    columns: [
      id,
      model,
      {
        id: "node",
        label: "Node",
        of: (request) => request.node,
        sort: (request) => request.node,
        make: drawn((name) => named(name ?? "–")),
      },
      {
        id: "status",
        label: "Status",
        of: (request) => `${request.status} ${request.attempt}`,
        sort: (request) => request.status,
        make: drawn((_, request) => statusOf(request)),
      },
      lane,
      key,
      {
        id: "tokens",
        label: "Tokens",
        kind: "num",
        of: (request) => whole(request.tokens ?? 0),
        sort: (request) => request.tokens ?? 0,
        isMostFirst: true,
      },
      {
        id: "rate",
        label: "Tokens/s",
        kind: "num",
        of: (request) => rate(request.tokens_per_s),
        sort: (request) => request.tokens_per_s ?? 0,
        isMostFirst: true,
      },
      lasts("claimed_at", "Runs for"),
      actions,
    ],
  });
  const waiting = new KeyedTable({
    caption: "Waiting requests",
    sortBy: "place",
    empty: h("p", {}, "Nobody waits."),
    columns: [
      id,
      model,
      lane,
      key,
      {
        id: "place",
        label: "Place",
        kind: "num",
        of: (request) => whole(request.place),
        sort: (request) => request.place,
      },
      lasts("queued_at", "Waits for"),
      actions,
    ],
  });

  function cancelButton(name) {
    const button = h("button", { type: "button", class: "danger", "aria-label": `Cancel ${name}` }, "Cancel");
    button.addEventListener("click", async () => {
      const isSure = await confirmed(
        "Cancel this request?",
        `Whoever asked for ${shortId(name)} hears that an operator cancelled it. This can't be taken back.`,
        "Cancel the request",
      );
      if (!isSure) return;
      const told = await attempt(button, () => api.delete(below("/api/requests", name)));
      if (told) say(`Request ${shortId(name)} is being cancelled.`);
    });
    return button;
  }

  const runningOf = h("span", { class: "muted" });
  const waitingOf = h("span", { class: "muted" });
  return {
    title: "Requests",
    element: h(
      "div",
      { class: "stack" },
      h(
        "section",
        { "aria-labelledby": "running" },
        h("h2", { id: "running" }, "Running ", runningOf),
        running.element,
      ),
      h(
        "section",
        { "aria-labelledby": "waiting" },
        h("h2", { id: "waiting" }, "Waiting ", waitingOf),
        waiting.element,
      ),
    ),
    update(grid) {
      running.render(Object.entries(grid.running));
      waiting.render(Object.entries(grid.waiting));
      setText(runningOf, shownOf(grid.running, grid.totals.running));
      setText(waitingOf, shownOf(grid.waiting, grid.totals.waiting));
    },
  };
}

/** A hub tells of at most so many; the totals count all. */
function shownOf(listed, total = 0) {
  const shown = Object.keys(listed).length;
  return total > shown && shown > 0 ? `${whole(shown)} of ${whole(total)} shown` : total ? whole(total) : "";
}

function statusOf({ status, attempt: number = 1 }) {
  const state = status === "streaming" ? badge("Streaming", "busy") : badge("Claimed", "plain");
  if (number < 2) return [state];
  return [state, h("span", { class: "why" }, `failover: ${counted(number - 1, "attempt")} before`)];
}
