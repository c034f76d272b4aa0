// Takes a key or a token back, once somebody is sure.

import { below } from "../data/api.js";
import { confirmed } from "../parts/dialog.js";
import { h } from "../parts/dom.js";
import { attempt, say } from "../parts/toasts.js";

/**
 * A button that revokes the `kind` ("key", "token") called `name` at `path`.
 * `consequence` says what that does, `outcome(told)` what it did; `onDone` is called behind it, also if it was refused.
 */
export function revokeButton({ api, kind, path, id, name, consequence, outcome = () => "", onDone }) {
  const button = h("button", { type: "button", class: "danger", "aria-label": `Revoke ${name}` }, "Revoke");
  button.addEventListener("click", async () => {
    const isSure = await confirmed(
      `Revoke the ${kind} ${name}?`,
      `${consequence} This can't be taken back.`,
      "Revoke it",
    );
    if (!isSure) return;
    const told = await attempt(button, () => api.delete(below(path, id)));
    if (told) say(`The ${kind} ${name} is revoked.${outcome(told)}`);
    await onDone();
  });
  return button;
}
