// Requests that run and that wait.

import { below } from "../data/api.js";
import { badge } from "../parts/badges.js";
import { amount, lasting, name } from "../parts/columns.js";
import { confirmed } from "../parts/dialog.js";
import { h, setText } from "../parts/dom.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { attempt, say } from "../parts/toasts.js";
import { counted, rate, shortId, whole } from "../words/format.js";
import { whyButton } from "./why.js";

export function requestsView({ store, api }) {
  const columns = columnsOf({ store, api });
  const running = new KeyedTable({
    caption: "Running requests",
    sortBy: "claimed_at",
    empty: h("p", {}, "Nothing runs now."),
    columns: columns.running,
  });
  const waiting = new KeyedTable({
    caption: "Waiting requests",
    sortBy: "place",
    empty: h("p", {}, "Nobody waits."),
    columns: columns.waiting,
  });
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

function columnsOf({ store, api }) {
  const id = {
    id: "id",
    label: "Request",
    of: (_, key) => key,
    make: drawn((key) => h("code", { title: key, class: "id" }, shortId(key))),
  };
  const model = name("model", "Model");
  const lane = { id: "lane", label: "Lane", of: (request) => request.lane ?? "–", sort: (request) => request.lane };
  const key = {
    id: "key",
    label: "Key",
    of: (request) => request.key ?? "–",
    sort: (request) => request.key,
    make: drawn((said) => h("code", {}, said)),
  };
  const actions = {
    id: "actions",
    label: "Actions",
    kind: "actions",
    of: (_, request) => request,
    make: drawn((request) => [whyButton(api, request), cancelButton(api, request)]),
  };
  const lasts = (id, label) => lasting(id, label, () => store.now());
  return {
    running: [
      id,
      model,
      name("node", "Node"),
      {
        id: "status",
        label: "Status",
        of: (request) => `${request.status} ${request.attempt}`,
        sort: (request) => request.status,
        make: drawn((_, request) => statusOf(request)),
      },
      lane,
      key,
      amount("tokens", "Tokens"),
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
    waiting: [
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
  };
}

function cancelButton(api, request) {
  const button = h("button", { type: "button", class: "danger", "aria-label": `Cancel ${request}` }, "Cancel");
  button.addEventListener("click", async () => {
    const isSure = await confirmed(
      "Cancel this request?",
      `Whoever asked for ${shortId(request)} hears that an operator cancelled it. This can't be taken back.`,
      "Cancel the request",
    );
    if (!isSure) return;
    const told = await attempt(button, () => api.delete(below("/api/requests", request)));
    if (told) say(`Request ${shortId(request)} is being cancelled.`);
  });
  return button;
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
