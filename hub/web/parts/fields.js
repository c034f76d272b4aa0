// Labelled fields of forms.

import { h } from "./dom.js";

/** An input under its label, with a hint below it. */
export function field(label, input, hint = "") {
  const hintId = `${input.id}-hint`;
  if (hint) input.setAttribute("aria-describedby", hintId);
  return h(
    "div",
    { class: "field" },
    h("label", { for: input.id }, label),
    input,
    hint && h("p", { class: "hint", id: hintId }, hint),
  );
}

/** The first field of a form: the name of a key or a token that is to be made. */
export function nameField(id, label, more = "") {
  const input = h("input", {
    id,
    name: "name",
    required: true,
    autofocus: true,
    autocomplete: "off",
    maxlength: 64,
    pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}",
  });
  return field(label, input, `Letters, digits, dot, dash and underscore. ${more}`.trim());
}
