// What keys used in the last 30 days.

import { Chart } from "../parts/charts.js";
import { amount, name } from "../parts/columns.js";
import { h } from "../parts/dom.js";
import { loading } from "../parts/loading.js";
import { KeyedTable } from "../parts/table.js";
import { compact, whole } from "../words/format.js";

const DAYS = 30;
const DAY_MS = 86_400_000;
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });

export function usagePart(api) {
  const chart = new Chart({
    title: "Tokens a day",
    kind: "bars",
    first: "Day",
    series: [
      { label: "completion", class: "one" },
      { label: "prompt", class: "two" },
    ],
    format: whole,
    axis: compact,
    label: (at) => DAY.format(at),
  });
  const table = new KeyedTable({
    caption: "Usage by key and model",
    sortBy: "completion_tokens",
    empty: h("p", {}, `No key was used in the last ${DAYS} days. Requests without a key are not counted here.`),
    columns: [
      name("name", "Key"),
      name("model", "Model"),
      amount("requests", "Requests"),
      amount("prompt_tokens", "Prompt tokens"),
      amount("completion_tokens", "Completion tokens"),
    ],
  });
  const { failed, load } = loading(async () => {
    const { usage } = await api.get(`/api/usage?days=${DAYS}`);
    chart.element.hidden = usage.length === 0;
    chart.update(
      byDay(usage),
      `${whole(usage.reduce((sum, one) => sum + one.completion_tokens, 0))} completion tokens in ${DAYS} days.`,
    );
    table.render(byKeyAndModel(usage));
  });

  return {
    element: h(
      "section",
      { "aria-labelledby": "usage" },
      h("h2", { id: "usage" }, `Usage in the last ${DAYS} days`),
      failed,
      chart.element,
      table.element,
    ),
    load,
  };
}

function byDay(usage) {
  const today = Math.floor(Date.now() / DAY_MS) * DAY_MS;
  const days = new Map(Array.from({ length: DAYS }, (_, ago) => [today - (DAYS - 1 - ago) * DAY_MS, [0, 0]]));
  for (const { day, prompt_tokens: prompt, completion_tokens: completion } of usage) {
    const values = days.get(Date.parse(`${day}T00:00:00Z`));
    if (!values) continue;
    values[0] += completion ?? 0;
    values[1] += prompt ?? 0;
  }
  return [...days].map(([at, values]) => ({ at, values }));
}

function byKeyAndModel(usage) {
  const rows = new Map();
  for (const one of usage) {
    const id = `${one.key}\n${one.model}`;
    const row = rows.get(id) ?? {
      name: one.name ?? one.key,
      model: one.model,
      requests: 0,
      prompt_tokens: 0,
      completion_tokens: 0,
    };
    for (const sum of ["requests", "prompt_tokens", "completion_tokens"]) row[sum] += one[sum] ?? 0;
    rows.set(id, row);
  }
  return [...rows];
}
