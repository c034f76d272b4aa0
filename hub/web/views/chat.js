// One chat completion, streamed: what came, how fast, and what went wrong, in words.

import { ApiError, refusal } from "../data/api.js";
import { bearer } from "../data/session.js";
import { readEvents } from "../data/sse.js";

const PATH = "/v1/chat/completions";

/**
 * Ask, and call `onText(text)`, `onThought(text)` and `onNote(text)` as the answer comes.
 * Returns `{ firstTokenMs, pieces, tokens, streamMs, node, attempt, finish }`; throws ApiError, or AbortError when stopped.
 */
export async function streamChat({ body, apiKey, signal, onText, onThought, onNote }) {
  const asked = performance.now();
  const response = await opened(body, apiKey, signal);
  const result = {
    firstTokenMs: null,
    pieces: 0,
    tokens: null,
    streamMs: 0,
    node: response.headers.get("x-ghub-node"),
    attempt: Number(response.headers.get("x-ghub-attempt") ?? 1),
    finish: null,
  };
  let isDone = false;
  await readEvents(response.body, {
    onComment: (text) => text && onNote(text),
    onEvent: (_, data) => {
      if (data === "[DONE]") {
        isDone = true;
        return;
      }
      const event = parsed(data);
      if (event.error)
        throw new ApiError(event.error.message ?? "The answer broke off.", {
          status: 200,
          code: String(event.error.code ?? ""),
        });
      if (event.usage?.completion_tokens) result.tokens = event.usage.completion_tokens;
      const choice = event.choices?.[0];
      if (!choice) return;
      result.finish = choice.finish_reason ?? result.finish;
      const thought = choice.delta?.reasoning_content ?? choice.delta?.reasoning;
      const text = choice.delta?.content;
      if (!text && !thought) return;
      result.firstTokenMs ??= performance.now() - asked;
      result.streamMs = performance.now() - asked - result.firstTokenMs;
      result.pieces += 1;
      if (thought) onThought(thought);
      if (text) onText(text);
    },
  });
  if (!isDone && !result.finish) throw new ApiError("The connection broke off before the answer's end.");
  return result;
}

/** Tokens a second after the first one; null where that can't be told. */
export function speed({ pieces, tokens, streamMs }) {
  const after = (tokens ?? pieces) - 1;
  return after > 0 && streamMs > 0 ? (after * 1000) / streamMs : null;
}

async function opened(body, apiKey, signal) {
  let response;
  try {
    response = await fetch(PATH, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...bearer(apiKey) },
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError("The hub does not answer.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new ApiError("The answer holds an event that is no JSON.");
  }
}
