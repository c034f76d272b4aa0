// The form of a new API key, and its secret, which a hub tells once.

import { copyBox } from "../parts/copy.js";
import { openDialog } from "../parts/dialog.js";
import { h, named } from "../parts/dom.js";
import { field, nameField } from "../parts/fields.js";
import { attempt } from "../parts/toasts.js";

const LIMITS = [
  ["rpm", "Requests a minute"],
  ["tpm", "Tokens a minute"],
  ["concurrency", "Requests at once"],
];

/** Ask for a key in a dialog; `onMade` is called once there is one. */
export function newKey({ api, onMade }) {
  const text = (id, label, attributes, hint) =>
    field(label, h("input", { id: `key-${id}`, name: id, autocomplete: "off", ...attributes }), hint);
  const lanes = ["interactive", "batch"].map((lane) => h("option", { value: lane }, lane));

  const create = h("button", { type: "submit", class: "main" }, "Create");
  const form = h(
    "form",
    { class: "fields" },
    nameField("key-name", "Name"),
    text("models", "Models", { placeholder: "all" }, "Names or patterns such as llama*, with commas between."),
    LIMITS.map(([id, label]) =>
      text(id, label, { type: "number", min: 1, step: 1, inputmode: "numeric", placeholder: "no limit" }),
    ),
    field("Most urgent lane", h("select", { id: "key-lane", name: "lane" }, lanes)),
    text(
      "expires",
      "Expires",
      { placeholder: "never", maxlength: 64 },
      "90m, 12h, 30d, 4w, or a day such as 2027-03-31.",
    ),
    h("div", { class: "buttons" }, create),
  );
  const dialog = openDialog("Create a key", form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const made = await attempt(create, () => api.post("/api/keys", wish(new FormData(form))));
    if (!made) return;
    form.replaceWith(...secret(made));
    dialog.querySelector(".copy-box button").focus();
    onMade();
  });
}

/** What was filled in, as `POST /api/keys` takes it. */
function wish(filled) {
  const text = (name) => String(filled.get(name) ?? "").trim();
  const models = text("models")
    .split(",")
    .map((model) => model.trim())
    .filter(Boolean);
  const limits = LIMITS.map(([id]) => [id, text(id)])
    .filter(([, said]) => said)
    .map(([id, said]) => [id, Number(said)]);
  return {
    name: text("name"),
    lane: text("lane"),
    ...(models.length ? { models } : {}),
    ...Object.fromEntries(limits),
    ...(text("expires") ? { expires: text("expires") } : {}),
  };
}

function secret({ key, name }) {
  return [
    h("p", {}, "The key ", named(name), " is shown this once. Nobody, the hub included, can show it again."),
    copyBox(key, "The new API key"),
  ];
}
