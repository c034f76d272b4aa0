// What an operator should look at, found in the state of the grid.

import { counted } from "../words/format.js";
import { reasonsInWords } from "../words/reasons.js";

const LONG_WAIT_MS = 30_000;
const MOST_SHOWN = 12;

/** A list of `{ key, tone, subject, text, at, href }`, the gravest first: `subject` others chose, `at` is since when. */
export function attention(state, now) {
  const found = [...dead(state), ...longWaits(state, now), ...bareModels(state), ...notTaking(state)];
  const more = found.length - MOST_SHOWN;
  if (more <= 0) return found;
  return [
    ...found.slice(0, MOST_SHOWN),
    {
      key: "more",
      tone: "paused",
      subject: "",
      text: `and ${counted(more, "more thing", "more things")}`,
      href: "#/nodes",
    },
  ];
}

function dead({ totals }) {
  if (!totals.dead) return [];
  return [
    {
      key: "dead",
      tone: "dead",
      subject: "",
      text: `${counted(totals.dead, "job")} failed on every attempt or ${totals.dead === 1 ? "was" : "were"} refused`,
      href: "#/dead",
    },
  ];
}

function longWaits({ queues }, now) {
  return Object.entries(queues)
    .filter(([, queue]) => queue.oldest_at !== undefined && now - queue.oldest_at > LONG_WAIT_MS)
    .sort(([, a], [, b]) => a.oldest_at - b.oldest_at)
    .map(([key, queue]) => ({
      key: `queue ${key}`,
      tone: "draining",
      subject: queue.model,
      text: `${counted(queue.waiting, "request")} in the ${queue.lane} lane, the oldest for`,
      at: queue.oldest_at,
      href: "#/queues",
    }));
}

function bareModels({ models }) {
  return Object.entries(models)
    .filter(([, model]) => !model.nodes)
    .map(([key, model]) => ({
      key: `model ${key}`,
      tone: model.waiting ? "dead" : "paused",
      subject: key,
      text: model.waiting
        ? `has no node, and ${counted(model.waiting, "request")} ${model.waiting === 1 ? "waits" : "wait"} for it`
        : "has no node",
      href: "#/models",
    }));
}

function notTaking({ nodes, words }) {
  return Object.entries(nodes)
    .filter(([, node]) => node.state === "paused" || node.state === "draining")
    .map(([key, node]) => ({
      key: `node ${key}`,
      tone: node.state,
      subject: key,
      text: reasonsInWords(node.reasons, words) || `is ${node.state}`,
      href: "#/nodes",
    }));
}
