// Asks for the admin token where a hub wants one.

import { h } from "../parts/dom.js";

/** The form; `onToken(token)` is called with what was put in. */
export function signIn(onToken) {
  const token = h("input", {
    id: "admin-token",
    type: "password",
    autocomplete: "off",
    required: true,
    "aria-describedby": "token-hint",
  });
  const error = h("p", { class: "notice error", role: "alert", hidden: true });
  const form = h(
    "form",
    { class: "card sign-in" },
    h("h1", {}, "Sign in"),
    h("p", {}, "This hub shows its grid to its operator."),
    h("label", { for: "admin-token" }, "Admin token"),
    token,
    h(
      "p",
      { class: "hint", id: "token-hint" },
      "The one of ",
      h("code", {}, "GHUB_HUB_ADMIN_TOKEN"),
      "; ",
      h("code", {}, "ghub up"),
      " keeps it in its data folder as ",
      h("code", {}, "admin-token"),
      ". This tab forgets it when it is closed.",
    ),
    error,
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "main" }, "Sign in")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onToken(token.value.trim());
  });
  return {
    element: form,
    /** Show it, with why the last token was not taken. */
    ask(why) {
      error.textContent = why;
      error.hidden = !why;
      token.value = "";
      token.focus();
    },
  };
}
