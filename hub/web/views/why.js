// "Why": what a hub says of a request, a node or a model that does not do what somebody waits for.

import { below } from "../data/api.js";
import { openDialog } from "../parts/dialog.js";
import { h, named } from "../parts/dom.js";

/** A button that asks about `name`. */
export function whyButton(api, name) {
  return h("button", { type: "button", "aria-label": `Why: ${name}`, on: { click: () => showWhy(api, name) } }, "Why");
}

function showWhy(api, name) {
  const content = h(
    "div",
    { "aria-live": "polite", "aria-busy": "true" },
    h("p", { class: "muted" }, "Asking the hub …"),
  );
  openDialog("Why?", [h("p", { class: "why-of" }, named(name)), content]);
  api
    .get(below("/api/why", name))
    .then((told) => content.replaceChildren(...answer(told)))
    .catch((error) => content.replaceChildren(h("p", { class: "notice error" }, error.message)))
    .finally(() => content.removeAttribute("aria-busy"));
}

function answer({ summary, reasons = [] }) {
  const items = reasons.map(({ code, text, cure }) =>
    h(
      "li",
      {},
      h("p", {}, text, " ", h("code", {}, code)),
      cure && h("p", { class: "cure" }, h("strong", {}, "What helps: "), cure),
    ),
  );
  return [h("p", { class: "summary" }, summary), items.length ? h("ul", { class: "reasons" }, items) : null].filter(
    Boolean,
  );
}
