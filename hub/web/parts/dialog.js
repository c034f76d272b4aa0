// Modal dialogs: the browser keeps focus inside, closes them with Escape and gives focus back.

import { h } from "./dom.js";

let opened = 0;

/** Show a dialog with this title and content. It is gone from the document when closed. */
export function openDialog(title, content, { class: name = "", onClose = () => {} } = {}) {
  opened += 1;
  const id = `dialog-${opened}`;
  const close = h(
    "button",
    { type: "button", class: "quiet", "aria-label": "Close", on: { click: () => dialog.close() } },
    "Close",
  );
  const head = h("header", {}, h("h2", { id }, title), close);
  const dialog = h("dialog", { "aria-labelledby": id, class: name }, head, content);
  dialog.addEventListener("close", () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that can't be taken back; resolves to whether to do it. */
export function confirmed(title, text, doIt) {
  return new Promise((resolve) => {
    let isSure = false;
    const say = (answer) => {
      isSure = answer;
      dialog.close();
    };
    const content = [
      h("p", {}, text),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", autofocus: true, on: { click: () => say(false) } }, "Keep it"),
        h("button", { type: "button", class: "danger", on: { click: () => say(true) } }, doIt),
      ),
    ];
    const dialog = openDialog(title, content, { class: "small", onClose: () => resolve(isSure) });
  });
}
