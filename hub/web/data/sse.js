// Server-sent events out of a fetch() body, framed as the HTML standard says. EventSource can't send headers.

export class SseParser {
  #line = "";
  #isBehindCr = false;
  #isFirst = true;
  #data = [];
  #type = "";

  /** `onEvent(type, data)` for each event, `onComment(text)` for each comment. */
  constructor({ onEvent, onComment = () => {} }) {
    this.onEvent = onEvent;
    this.onComment = onComment;
  }

  /** Take the next piece of text, wherever it was cut. */
  push(text) {
    if (this.#isFirst && text) {
      this.#isFirst = false;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    if (this.#isBehindCr && text) {
      this.#isBehindCr = false;
      if (text.startsWith("\n")) text = text.slice(1);
    }
    const ends = /\r\n|\r|\n/g;
    let from = 0;
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      const line = this.#line + text.slice(from, end.index);
      this.#line = "";
      from = ends.lastIndex;
      this.#isBehindCr = end[0] === "\r" && from === text.length;
      this.#take(line);
    }
    this.#line += text.slice(from);
  }

  #take(line) {
    if (line === "") {
      const data = this.#data;
      const type = this.#type || "message";
      this.#data = [];
      this.#type = "";
      if (data.length) this.onEvent(type, data.join("\n"));
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) {
      this.onComment(line.slice(1).trim());
      return;
    }
    const field = colon < 0 ? line : line.slice(0, colon);
    const rest = colon < 0 ? "" : line.slice(colon + 1);
    const value = rest.startsWith(" ") ? rest.slice(1) : rest;
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
  }
}

/** Read a body to its end. `onBytes` is called at every sign of life. */
export async function readEvents(body, { onEvent, onComment, onBytes = () => {} }) {
  const parser = new SseParser({ onEvent, onComment });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onBytes();
      parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
