// A chat with any model of the grid, as a client would have it.

import { ApiError } from "../data/api.js";
import { h, setText } from "../parts/dom.js";
import { field } from "../parts/fields.js";
import { latency, rate } from "../words/format.js";
import { speed, streamChat } from "./chat.js";
import { transcript } from "./transcript.js";

const DEFAULT_MAX_TOKENS = 300;
const HINTS = new Map([
  ["missing_api_key", "Put an API key into the field above; `Keys & usage` makes one."],
  ["invalid_api_key", "The API key in the field above is not known to this hub."],
  ["model_unavailable", "No node serves this model now; `Models` → `Why` tells more."],
  ["queue_full", "Too many requests wait for this model."],
]);

export function playgroundView({ session }) {
  let history = [];
  let stopper = null;
  const wishes = settings(session);
  const figures = h("p", { class: "figures", role: "status" });
  const log = transcript();
  const writing = composer({ onSend: ask, onStop: () => stopper?.abort(), onClear: forget });
  const none = h("p", { class: "notice" }, "No model is served yet: add a machine first.");

  function forget() {
    stopper?.abort();
    history = [];
    log.clear();
    setText(figures, "");
  }

  async function ask(said) {
    const conversation = history;
    conversation.push({ role: "user", content: said });
    log.user(said);
    const answer = log.answer(wishes.body().model);
    stopper = new AbortController();
    writing.toggle(true);
    setText(figures, "Asking …");
    let text = "";
    try {
      const result = await streamChat({
        body: { ...wishes.body(), messages: [...conversation] },
        apiKey: wishes.apiKey(),
        signal: stopper.signal,
        onNote: (note) => setText(figures, note),
        onThought: answer.think,
        onText: (piece) => {
          if (!text) setText(figures, "Streaming …");
          text += piece;
          answer.write(piece);
        },
      });
      setText(figures, summary(result));
    } catch (error) {
      setText(figures, stopper.signal.aborted ? "Stopped." : "");
      if (!stopper.signal.aborted) answer.fail(inWords(error));
    } finally {
      stopper = null;
      answer.end();
      writing.toggle(false);
      if (text) conversation.push({ role: "assistant", content: text });
      else conversation.pop();
    }
  }

  return {
    title: "Playground",
    element: h("div", { class: "playground" }, wishes.element, none, log.element, figures, writing.element),
    update({ models, hub }) {
      wishes.list(Object.keys(models).sort(), hub.needs_keys);
      none.hidden = Object.keys(models).length > 0;
      writing.allow(none.hidden);
    },
  };
}

/** What an answer is asked with: `body()` and `apiKey()` tell it. */
function settings(session) {
  const model = h("select", { id: "play-model", required: true });
  const maxTokens = h("input", {
    id: "play-max",
    type: "number",
    min: 1,
    step: 1,
    value: DEFAULT_MAX_TOKENS,
    inputmode: "numeric",
  });
  const temperature = h("input", {
    id: "play-temperature",
    type: "number",
    min: 0,
    max: 2,
    step: 0.1,
    placeholder: "default",
    inputmode: "decimal",
  });
  const apiKey = h("input", { id: "play-key", type: "password", autocomplete: "off", value: session.apiKey });
  const keyField = field("API key", apiKey);
  apiKey.addEventListener("change", () => (session.apiKey = apiKey.value.trim()));
  return {
    element: h(
      "form",
      { class: "settings", on: { submit: (event) => event.preventDefault() } },
      field("Model", model),
      field("Most tokens", maxTokens),
      field("Temperature", temperature),
      keyField,
    ),
    body() {
      const limit = Number(maxTokens.value);
      return {
        model: model.value,
        ...(limit > 0 ? { max_tokens: limit } : {}),
        ...(temperature.value === "" ? {} : { temperature: Number(temperature.value) }),
      };
    },
    apiKey: () => (keyField.hidden ? "" : apiKey.value.trim()),
    list(names, needsKeys) {
      keyField.hidden = !needsKeys;
      if (names.join("\n") === [...model.options].map((option) => option.value).join("\n")) return;
      const chosen = model.value;
      model.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      if (names.includes(chosen)) model.value = chosen;
    },
  };
}

/** Where messages are written; `onSend(said)` is called with each. */
function composer({ onSend, onStop, onClear }) {
  const prompt = h("textarea", {
    id: "play-prompt",
    rows: 3,
    placeholder: "Say something to the model",
    "aria-describedby": "play-hint",
  });
  const send = h("button", { type: "submit", class: "main" }, "Send");
  const stop = h("button", { type: "button", class: "danger", hidden: true, on: { click: onStop } }, "Stop");
  const clear = h("button", { type: "button" }, "Clear");
  const element = h(
    "form",
    { class: "composer" },
    h("label", { for: "play-prompt", class: "unseen" }, "Your message"),
    prompt,
    h(
      "div",
      { class: "buttons" },
      h("p", { class: "hint", id: "play-hint" }, "Enter sends, Shift+Enter begins a new line."),
      clear,
      stop,
      send,
    ),
  );
  clear.addEventListener("click", () => {
    onClear();
    prompt.focus();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    element.requestSubmit();
  });
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = prompt.value.trim();
    if (!said || send.hidden || send.disabled) return;
    prompt.value = "";
    onSend(said);
  });
  return {
    element,
    allow(isAllowed) {
      send.disabled = !isAllowed;
    },
    /** Show what can be done while an answer comes, or while none does. */
    toggle(isAsking) {
      const hadFocus = document.activeElement === (isAsking ? send : stop);
      send.hidden = isAsking;
      stop.hidden = !isAsking;
      if (hadFocus) (isAsking ? stop : prompt).focus();
    },
  };
}

function summary(result) {
  const parts = [
    `${result.tokens ?? result.pieces} tokens`,
    speed(result) === null ? null : `${rate(speed(result))} tokens/s`,
    result.firstTokenMs === null ? null : `first token after ${latency(result.firstTokenMs)}`,
    result.node && `by ${result.node}`,
    result.attempt > 1 && `attempt ${result.attempt}`,
    result.finish === "length" && "cut at the limit",
  ];
  return parts.filter(Boolean).join(" · ");
}

function inWords(error) {
  if (!(error instanceof ApiError)) return "The connection broke off.";
  return [error.message, HINTS.get(error.code)].filter(Boolean).join(" ");
}
