// What was said in the playground. Texts of models are text and nothing else.

import { h, named } from "../parts/dom.js";

const NEAR_THE_END_PX = 60;

export function transcript() {
  const empty = h(
    "p",
    { class: "empty" },
    "Messages appear here. What you send goes the way of every other request: queue, idle machine, answer token by token.",
  );
  const list = h("ol", { class: "messages" });
  const element = h(
    "div",
    { class: "transcript", tabindex: 0, role: "log", "aria-label": "Conversation", "aria-live": "off" },
    empty,
    list,
  );

  function add(message) {
    empty.hidden = true;
    list.append(message);
    element.scrollTop = element.scrollHeight;
  }

  /** Change something, and stay at the end if that is where the reader is. */
  function following(change) {
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_THE_END_PX;
    change();
    if (isAtEnd) element.scrollTop = element.scrollHeight;
  }

  return {
    element,
    clear() {
      list.replaceChildren();
      empty.hidden = false;
    },
    user(said) {
      add(h("li", { class: "message user" }, h("span", { class: "who" }, "You"), h("div", { class: "said" }, said)));
    },
    answer(model) {
      const said = h("div", { class: "said" });
      const thought = h("div", { class: "thought", hidden: true });
      const message = h(
        "li",
        { class: "message model", "aria-busy": "true" },
        h("span", { class: "who" }, named(model)),
        thought,
        said,
      );
      add(message);
      return {
        write: (piece) => following(() => said.append(piece)),
        think(piece) {
          thought.hidden = false;
          following(() => thought.append(piece));
        },
        fail: (why) => following(() => message.append(h("p", { class: "notice error" }, why))),
        end() {
          message.removeAttribute("aria-busy");
          said.normalize();
        },
      };
    },
  };
}
