// What an empty grid shows: how the first machine joins.

import { h } from "../parts/dom.js";

export function firstSteps() {
  return h(
    "section",
    { class: "card first-steps", "aria-label": "First steps" },
    h("h2", {}, "No machine has joined yet"),
    h(
      "p",
      {},
      "A machine with an inference engine (Ollama, vLLM, llama.cpp, LM Studio …) joins with one line. It needs no open port, and takes work only while its GPU is idle.",
    ),
    h(
      "ol",
      {},
      h(
        "li",
        {},
        h("a", { href: "#/nodes" }, "Nodes"),
        " → ",
        h("strong", {}, "Add a machine"),
        " makes a token and shows the line, as ",
        h("code", {}, "ghub token create desk"),
        " does.",
      ),
      h("li", {}, "Run it there: ", h("code", {}, "uv run ghub provider --hub-url http://HUB:8080 --token ghubp-…")),
      h("li", {}, "It appears here within seconds."),
    ),
  );
}
