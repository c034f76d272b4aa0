// What a view asks a hub for when it is shown, and a line that says why it could not be had.

import { h } from "./dom.js";

/** `ask` may throw; its element `failed` then tells why, until `load()` is called again and goes well. */
export function loading(ask) {
  const failed = h("p", { class: "notice error", hidden: true });
  async function load() {
    try {
      await ask();
      failed.hidden = true;
    } catch (error) {
      failed.textContent = error.message;
      failed.hidden = false;
    }
  }
  return { failed, load };
}
