// States and amounts at a glance; each says in text what its colour or length says.

import { reasonsInWords, stateInWords } from "../words/reasons.js";
import { h, setText } from "./dom.js";

/** A word with a dot of its colour. `tone`: `idle busy draining paused dead plain`. */
export function badge(text, tone) {
  return h("span", { class: `badge ${tone}` }, h("span", { class: "dot" }), text);
}

/** A node's state, with its reasons in words below it. */
export function stateOf(node, words) {
  const why = reasonsInWords(node.reasons, words);
  const state = badge(stateInWords(node.state), node.state ?? "plain");
  return why ? [state, h("span", { class: "why" }, why)] : [state];
}

/** A bar of 0 to 100 % that can be set again. The text beside it says the same, so it is silent. */
export class Bar {
  constructor(label) {
    this.fill = h("span", { class: "fill" });
    this.text = h("span");
    this.label = h("span", { class: "what" }, label);
    this.element = h(
      "span",
      { class: "meter" },
      this.label,
      h("span", { class: "bar", "aria-hidden": "true" }, this.fill),
      this.text,
    );
  }

  set(share, text) {
    const pct = Math.round(Math.min(1, Math.max(0, share || 0)) * 100);
    if (pct !== this.pct) {
      this.pct = pct;
      this.fill.style.transform = `scaleX(${pct / 100})`; // moves no other thing, as a width would
      this.fill.classList.toggle("high", pct >= 90);
    }
    setText(this.text, text);
  }
}
