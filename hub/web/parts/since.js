// How long something lasts, counted on every second without drawing anything else.

import { duration } from "../words/format.js";
import { h, setText } from "./dom.js";

/** A text that tells how long ago `at` was (Unix ms on the broker's clock). */
export function since(at, now) {
  return h("span", { data: { since: at } }, duration(now - at));
}

/** Bring those within an element up to date. */
export function tick(root, now) {
  for (const element of root.querySelectorAll("[data-since]"))
    setText(element, duration(now - Number(element.dataset.since)));
}
