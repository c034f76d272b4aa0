// The grid at a glance.

import { badge } from "../parts/badges.js";
import { Chart } from "../parts/charts.js";
import { amount, name } from "../parts/columns.js";
import { h, named, setText } from "../parts/dom.js";
import { since } from "../parts/since.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { compact, counted, latency, rate, whole } from "../words/format.js";
import { attention } from "./attention.js";
import { firstSteps } from "./first-steps.js";
import { firstTokenTimes, minutes, requestCounts, tokenRates } from "./history.js";

export function overviewView({ store }) {
  const tiles = totalTiles();
  const steps = firstSteps();
  const needs = attentionCard();
  const hour = lastHour();
  const hubs = hubTable(store);
  return {
    title: "Overview",
    element: h(
      "div",
      { class: "stack" },
      tiles.element,
      steps,
      needs.element,
      hour.element,
      h("section", { class: "card", "aria-labelledby": "hubs" }, h("h2", { id: "hubs" }, "Hubs"), hubs.element),
    ),
    update(state, now) {
      const isEmpty = Object.keys(state.nodes).length === 0;
      steps.hidden = !isEmpty;
      needs.element.hidden = isEmpty && !state.totals.dead && !state.totals.waiting;
      tiles.show(state.totals);
      needs.show(state, now);
      hour.show(state.history, now);
      hubs.render(Object.entries(state.hubs));
    },
    tick(state, now) {
      needs.show(state, now);
      hour.show(state.history, now);
    },
  };
}

function totalTiles() {
  const tiles = new Map(
    ["Nodes", "Running", "Waiting", "Tokens per second", "Dead jobs"].map((label) => [label, tile(label)]),
  );
  const set = (label, value, note) => tiles.get(label).set(value, note);
  return {
    element: h(
      "dl",
      { class: "tiles" },
      [...tiles.values()].map((one) => one.element),
    ),
    show(totals) {
      const off = [totals.draining && `${totals.draining} draining`, totals.paused && `${totals.paused} paused`];
      set(
        "Nodes",
        whole(totals.nodes ?? 0),
        [`${totals.idle ?? 0} idle`, `${totals.busy ?? 0} busy`, ...off].filter(Boolean).join(" · "),
      );
      set("Running", whole(totals.running ?? 0), `of ${counted(totals.slots ?? 0, "slot")}`);
      set("Waiting", whole(totals.waiting ?? 0), totals.waiting ? "in all lanes" : "nobody waits");
      set("Tokens per second", rate(totals.tokens_per_s ?? 0), "over all running requests");
      set("Dead jobs", whole(totals.dead ?? 0), totals.dead ? "to retry or drop" : "none");
    },
  };
}

function tile(label) {
  const value = h("dd", { class: "value" });
  const note = h("dd", { class: "note" });
  return {
    element: h("div", { class: "tile" }, h("dt", {}, label), value, note),
    set(text, under) {
      setText(value, text);
      setText(note, under);
    },
  };
}

function attentionCard() {
  const list = h("ul", { class: "attention" });
  const calm = h("p", { class: "muted" }, "Nothing: every node takes work and nothing waits long.");
  let shown = "";
  return {
    element: h(
      "section",
      { class: "card", "aria-labelledby": "attend" },
      h("h2", { id: "attend" }, "Needs attention"),
      list,
      calm,
    ),
    show(state, now) {
      const found = attention(state, now);
      const said = JSON.stringify(found);
      if (said === shown) return;
      shown = said;
      calm.hidden = found.length > 0;
      list.replaceChildren(
        ...found.map(({ tone, subject, text, at, href }) =>
          h(
            "li",
            {},
            h(
              "a",
              { href },
              badge("", tone),
              h("span", {}, subject && named(subject), " ", text, at && [" ", since(at, now)]),
            ),
          ),
        ),
      );
    },
  };
}

function lastHour() {
  const charts = makeCharts();
  let drawnHistory = null;
  let drawnMinute = 0;
  return {
    element: h(
      "section",
      { "aria-labelledby": "hour" },
      h("h2", { id: "hour" }, "The last hour"),
      h(
        "div",
        { class: "charts" },
        Object.values(charts).map((chart) => chart.element),
      ),
    ),
    show(history, now) {
      const minute = Math.floor(now / 60_000);
      if (history === drawnHistory && minute === drawnMinute) return;
      [drawnHistory, drawnMinute] = [history, minute];
      const hour = minutes(history, now);
      const points = Object.values(history.points ?? {});
      const sum = (field) => points.reduce((all, point) => all + (point[field] ?? 0), 0);
      charts.tokens.update(
        tokenRates(hour),
        `${whole(sum("completion_tokens"))} tokens were generated in the last hour.`,
      );
      charts.requests.update(
        requestCounts(hour),
        `${counted(sum("requests"), "request")} ended in the last hour, ${whole(sum("failed"))} of them failed.`,
      );
      const slowest = Math.max(0, ...points.map((point) => point.first_token_p95_ms ?? 0));
      charts.first.update(firstTokenTimes(hour), `The slowest minute's 95th percentile was ${latency(slowest)}.`);
    },
  };
}

function makeCharts() {
  return {
    tokens: new Chart({
      title: "Tokens per second",
      kind: "area",
      series: [{ label: "now", class: "one" }],
      format: rate,
      axis: compact,
    }),
    requests: new Chart({
      title: "Requests per minute",
      kind: "bars",
      series: [
        { label: "done", class: "one" },
        { label: "failed", class: "bad" },
      ],
      format: whole,
      axis: compact,
    }),
    first: new Chart({
      title: "First-token time",
      kind: "lines",
      series: [
        { label: "p50", class: "one" },
        { label: "p95", class: "two" },
      ],
      format: latency,
    }),
  };
}

function hubTable(store) {
  return new KeyedTable({
    caption: "Hubs of this grid",
    sortBy: "hub",
    empty: "No hub has told of itself yet.",
    columns: [
      name("hub", "Hub", (_, key) => key),
      { id: "address", label: "Address", of: (hub) => hub.address ?? "–" },
      { id: "version", label: "Version", of: (hub) => hub.version ?? "–" },
      amount("open_requests", "Open requests"),
      {
        id: "up",
        label: "Up for",
        kind: "num",
        of: (hub) => hub.started_at,
        make: drawn((at) => (at ? since(at, store.now()) : "–")),
      },
    ],
  });
}
