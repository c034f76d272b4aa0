// A line of text with a button that copies it.

import { h, setText } from "./dom.js";

const SAID_MS = 2_000;

/** A box with a line in it; `label` names it for those who can't see it. */
export function copyBox(text, label) {
  const line = h("code", { tabindex: 0, role: "textbox", "aria-readonly": "true", "aria-label": label }, text);
  const button = h("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    setText(button, (await copied(text, line)) ? "Copied" : "Press Ctrl+C");
    setTimeout(() => setText(button, "Copy"), SAID_MS);
  });
  return h("div", { class: "copy-box" }, line, button);
}

/** Pages without TLS have no clipboard but the old one, and some not even that: then the text is selected. */
async function copied(text, line) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(line);
    try {
      return document.execCommand("copy");
    } catch {
      return false;
    }
  }
}
