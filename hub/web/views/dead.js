// Jobs that were refused, or failed on every attempt.

import { below } from "../data/api.js";
import { name } from "../parts/columns.js";
import { confirmed } from "../parts/dialog.js";
import { h } from "../parts/dom.js";
import { loading } from "../parts/loading.js";
import { drawn, KeyedTable } from "../parts/table.js";
import { attempt, say } from "../parts/toasts.js";
import { counted, moment, shortId, whole } from "../words/format.js";

export function deadView({ api }) {
  let jobs = [];
  let seenTotal;
  let asking = false;
  const table = new KeyedTable({
    caption: "Dead jobs",
    sortBy: "at",
    empty: [
      h("h2", {}, "No dead jobs"),
      h("p", {}, "A job that fails on every attempt, or that a provider refuses, is kept here for seven days."),
    ],
    columns: columns(api, load),
  });
  const { failed, load: ask } = loading(async () => {
    ({ dead: jobs } = await api.get("/api/dead?limit=200"));
  });
  const dropAll = h("button", { type: "button", class: "danger" }, "Drop all");
  dropAll.addEventListener("click", async () => {
    const isSure = await confirmed(
      "Drop all dead jobs?",
      `${counted(jobs.length, "job")} and what was asked in them will be gone.`,
      "Drop all",
    );
    if (!isSure) return;
    const told = await attempt(dropAll, () => api.delete("/api/dead"));
    if (told) say(`${counted(told.dropped, "dead job")} dropped.`);
    await load();
  });

  async function load() {
    if (asking) return;
    asking = true;
    await ask();
    asking = false;
    dropAll.hidden = jobs.length < 2;
    table.render(jobs.map((job) => [job.id, job]));
  }

  return {
    title: "Dead jobs",
    element: h(
      "div",
      { class: "stack" },
      failed,
      h(
        "div",
        { class: "toolbar" },
        h(
          "p",
          { class: "muted" },
          "A retry publishes the job anew, without a client; its answer is read and not kept.",
        ),
        dropAll,
      ),
      table.element,
    ),
    show: load,
    update({ totals }) {
      if (totals.dead !== seenTotal && seenTotal !== undefined) load();
      seenTotal = totals.dead;
    },
  };
}

function columns(api, onDone) {
  return [
    {
      id: "request",
      label: "Request",
      of: (job) => job.request ?? job.id,
      make: drawn((id) => h("code", { class: "id", title: id }, shortId(id))),
    },
    { id: "at", label: "Died", of: (job) => moment(job.at), sort: (job) => job.at ?? 0, isMostFirst: true },
    name("model", "Model"),
    {
      id: "reason",
      label: "Reason",
      of: (job) => `${job.code}\n${job.reason}`,
      sort: (job) => job.code,
      make: drawn((_, job) => [h("code", {}, job.code ?? "–"), h("span", { class: "why" }, job.reason ?? "")]),
    },
    {
      id: "attempt",
      label: "Attempts",
      kind: "num",
      of: (job) => whole(job.attempt),
      sort: (job) => job.attempt ?? 0,
      isMostFirst: true,
    },
    {
      id: "actions",
      label: "Actions",
      kind: "actions",
      of: (job) => `${job.is_retryable} ${job.retried_as ?? ""}`,
      make: drawn((_, job) => [retryButton(api, job, onDone), dropButton(api, job, onDone)]),
    },
  ];
}

function retryButton(api, job, onDone) {
  if (job.retried_as) return h("span", { class: "muted" }, `retried as ${shortId(job.retried_as)}`);
  if (!job.is_retryable) return h("span", { class: "muted" }, "can't be retried");
  const button = h("button", { type: "button", "aria-label": `Retry ${job.id}` }, "Retry");
  button.addEventListener("click", async () => {
    const told = await attempt(button, () => api.post(`${below("/api/dead", job.id)}/retry`));
    if (told) say(`The job runs again as request ${shortId(told.request)}.`);
    await onDone();
  });
  return button;
}

function dropButton(api, job, onDone) {
  const button = h("button", { type: "button", class: "danger", "aria-label": `Drop ${job.id}` }, "Drop");
  button.addEventListener("click", async () => {
    const isSure = await confirmed("Drop this dead job?", "It and what was asked in it will be gone.", "Drop it");
    if (!isSure) return;
    const told = await attempt(button, () => api.delete(below("/api/dead", job.id)));
    if (told) say("The dead job is gone.");
    await onDone();
  });
  return button;
}
