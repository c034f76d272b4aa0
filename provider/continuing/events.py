"""Streams of events, as OpenAI's chats and completions have them: read, made to fit, ended."""

from typing import Any

import orjson

from provider.continuing.begun import Begun, find_hindrance
from provider.continuing.obstacles import Obstacle
from provider.protocol.events import data_of, split_events
from provider.protocol.usage import read_events_usage

_DONE = b"data: [DONE]\n\n"
_HEAD = ("id", "object", "created", "model", "system_fingerprint")
_PARTIAL = "timings"
"""What llama.cpp tells of its own part only."""


class EventForm:
    """How such a stream is read and written. `is_chat`: text stands in deltas."""

    content_type = "text/event-stream"

    def __init__(self, *, is_chat: bool) -> None:
        self._is_chat = is_chat

    def read(self, data: bytes) -> Begun:
        """What came of an answer: whole events."""
        begun = Begun()
        for event in split_events(data):
            payload = data_of(event).strip()
            if payload == b"[DONE]":
                begun.is_over = True
            elif payload and payload != b"null":  # llama.cpp says so where a result has nothing to say
                try:
                    self._read(orjson.loads(payload), begun)
                except (ValueError, TypeError, AttributeError, LookupError):
                    begun.hinder(Obstacle.FORM)
                else:
                    told = read_events_usage(event)
                    begun.usage = begun.usage if told.completion_tokens is None else told
        return begun

    def _read(self, chunk: dict[str, Any], begun: Begun) -> None:
        begun.head = begun.head or {name: chunk[name] for name in _HEAD if name in chunk}
        choices = chunk["choices"]
        for choice in choices:
            said = choice.get("delta") or {} if self._is_chat else choice
            if obstacle := find_hindrance(choice) or find_hindrance(said):
                begun.hinder(obstacle)
            elif choice.get("index"):
                begun.hinder(Obstacle.SEVERAL)
            begun.say(said.get("content" if self._is_chat else "text"))
            begun.is_finished = begun.is_finished or choice.get("finish_reason") is not None
        # in a chunk of its own, or with the reason to end (llama.cpp's completions)
        begun.has_usage = begun.has_usage or (bool(chunk.get("usage")) and (not choices or begun.is_finished))

    def rewrite(self, block: bytes, begun: Begun) -> bytes:
        """Events of the rest as if the engine that began had said them; those that only open an answer are left out."""
        return b"".join([self._rewritten(event, begun) for event in split_events(block)])

    def _rewritten(self, event: bytes, begun: Begun) -> bytes:
        payload = data_of(event).strip()
        if not payload.startswith(b"{"):
            return event
        try:
            chunk = self._fitted(orjson.loads(payload), begun)
        except (ValueError, AttributeError, LookupError, TypeError):  # no chunk of an answer
            return event
        return b"data: %b\n\n" % orjson.dumps(chunk) if chunk else b""

    def _fitted(self, chunk: dict[str, Any], begun: Begun) -> dict[str, Any] | None:
        """A chunk, altered in place; None if it only opens an answer."""
        choices = chunk["choices"]
        for choice in choices:
            if self._is_chat and isinstance(delta := choice.get("delta"), dict):
                delta.pop("role", None)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            chunk["usage"] = _summed(usage, begun)
        elif choices and not any(_says_something(choice) for choice in choices):
            return None
        chunk.pop(_PARTIAL, None)
        for name in _HEAD:
            if name in begun.head:
                chunk[name] = begun.head[name]
            else:
                chunk.pop(name, None)
        return chunk

    def mark(self, node: str, attempt: int) -> bytes:
        """What shows the place to whoever looks at the stream: a comment."""
        return f": continued by {node}, attempt {attempt}\n\n".encode()

    def ending(self, begun: Begun, fields: dict[str, Any]) -> bytes:
        """What is missing at the end of an answer to this request for which no engine has to be asked any more."""
        if begun.is_over:
            return b""
        told = b""
        if not begun.is_finished:
            said: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
            choice = {"index": 0, **said, "logprobs": None, "finish_reason": "length"}
            told = b"data: %b\n\n" % orjson.dumps({**begun.head, "choices": [choice]})
        options = fields.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage") and not begun.has_usage:
            prompt = (begun.usage and begun.usage.prompt_tokens) or 0
            answer = begun.tokens
            usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
            told += b"data: %b\n\n" % orjson.dumps({**begun.head, "choices": [], "usage": usage})
        return told + _DONE


def _says_something(choice: dict[str, Any]) -> bool:
    said = choice.get("delta")
    words = said.values() if isinstance(said, dict) else [choice.get("text")]
    return choice.get("finish_reason") is not None or any(words)


def _summed(usage: dict[str, Any], begun: Begun) -> dict[str, Any]:
    """The figures of the whole answer, from those of its rest."""
    prompt, answer = begun.sum_prompt(usage.get("prompt_tokens")), begun.sum_answer(usage.get("completion_tokens"))
    if prompt is None or answer is None:
        return usage
    return usage | {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
