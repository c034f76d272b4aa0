// Makes a provider's token, shows the line that starts a machine with it, and watches for what comes.

import { copyBox } from "../parts/copy.js";
import { openDialog } from "../parts/dialog.js";
import { h, named } from "../parts/dom.js";
import { nameField } from "../parts/fields.js";
import { attempt } from "../parts/toasts.js";
import { counted } from "../words/format.js";
import { stateInWords } from "../words/reasons.js";

export function addMachine({ store, api }) {
  let watch = null;
  openDialog("Add a machine", nameForm(), { class: "wide", onClose: () => clearInterval(watch) });

  function nameForm() {
    const make = h("button", { type: "submit", class: "main" }, "Make the line");
    const form = h(
      "form",
      {},
      h(
        "p",
        {},
        "A machine with an inference engine joins with one line. It dials out to this hub and to the broker; nobody needs to reach it.",
      ),
      nameField("machine", "A name for its token", "By this name Keys & usage shows it, and revokes it."),
      h("div", { class: "buttons" }, make),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const token = await attempt(make, () => api.post("/api/tokens", { name: new FormData(form).get("name").trim() }));
      if (token) form.replaceWith(...line(token));
    });
    return form;
  }

  function line({ join, join_env: joinEnv, hub_url: hubUrl, is_reachable: isReachable, name }) {
    const before = new Set(Object.keys(store.state.nodes));
    const came = h("ul", { class: "came", "aria-live": "polite" });
    const waiting = h("p", { class: "waiting" }, h("span", { class: "pulse" }), "Waiting for the machine …");
    const seen = new Set();
    watch = setInterval(() => {
      for (const [node, told] of Object.entries(store.state.nodes)) {
        if (before.has(node) || seen.has(node)) continue;
        seen.add(node);
        waiting.hidden = true;
        came.append(
          h(
            "li",
            {},
            named(node),
            ` has joined: ${stateInWords(told.state).toLowerCase()}, ${counted((told.models ?? []).length, "model")}.`,
          ),
        );
      }
    }, 500);
    const box = copyBox(join, "The line to run on the new machine");
    setTimeout(() => box.querySelector("button").focus());
    return [
      h("p", {}, "Run this on the machine. The token ", named(name), " is shown this once."),
      box,
      !isReachable &&
        h(
          "p",
          { class: "notice warn" },
          h("strong", {}, "This address only works on this very machine. "),
          "For others, start the stack with ",
          h("code", {}, "ghub up --host 0.0.0.0"),
          ", or tell the hubs their address with ",
          h("code", {}, "GHUB_HUB_PUBLIC_URL"),
          ", and put it in place of ",
          h("code", {}, hubUrl),
          ".",
        ),
      h(
        "p",
        { class: "hint" },
        "It goes into a checkout of GhubAi there, with uv (pip install uv) and an engine that runs; this hub and its broker must be reachable from there. Others on that machine could read the token from its list of processes; this passes it by the environment:",
      ),
      copyBox(joinEnv, "The same with the token in the environment"),
      waiting,
      came,
    ].filter(Boolean);
  }
}
