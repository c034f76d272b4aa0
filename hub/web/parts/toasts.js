// Short notes on what was done or refused, also for those who hear the page.

import { h } from "./dom.js";

const SHOWN_MS = 6_000;
const ERROR_SHOWN_MS = 12_000;
const MOST = 4;

/** Say something in a corner for a while. */
export function say(text, { isError = false } = {}) {
  const corner = document.getElementById("toasts");
  const toast = h("p", { class: isError ? "toast error" : "toast" }, text);
  const away = h(
    "button",
    { type: "button", class: "quiet", "aria-label": "Dismiss", on: { click: () => toast.remove() } },
    "×",
  );
  toast.append(away);
  corner.append(toast);
  while (corner.children.length > MOST) corner.firstChild.remove();
  setTimeout(() => toast.remove(), isError ? ERROR_SHOWN_MS : SHOWN_MS);
}

/** Do something the hub may refuse; undefined if it did, which is said. `button` can't be pressed meanwhile. */
export async function attempt(button, action) {
  button.disabled = true;
  try {
    return await action();
  } catch (error) {
    say(error.message, { isError: true });
    return undefined;
  } finally {
    button.disabled = false;
  }
}
