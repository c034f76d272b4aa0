"""A whole answer, asked for in pieces and put together again.

llama.cpp looks whether the caller of a whole answer has left only after a second without any result of any slot: beside
one running stream it never looks, and generates for nobody to the end (seen with xllamacpp 2026.10). The writer of a
stream notices at the next token. So text answers are asked for as streams; `return_progress` makes llama.cpp write
during the prefill too, once a batch.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson

from provider.protocol.engine import EngineAnswer, Question
from provider.protocol.events import EventSplitter, data_of, split_events
from provider.protocol.failures import bad_answer, broke_off, engine_error, read_error_event

_ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Where the chunks of a stream are of the form that is put together here."""
_SEVERAL = ("n", "best_of", "n_cmpl")
"""Fields that ask for more than one answer: their pieces don't tell whose usage is whose."""
_OTHERWISE = ("tools", "functions", "verbose", "return_progress", "return_tokens")
"""Fields whose streamed form says something else: tool calls are parsed out of half of their text, and refused with
`logprobs`; the others add to each piece."""


def in_pieces(question: Question) -> Question | None:
    """The same with a streamed answer; None if it has one already, or its pieces would not make the same whole."""
    if question.stream or question.endpoint not in _ENDPOINTS:
        return None
    try:
        fields = orjson.loads(question.body)
    except ValueError:
        return None
    if not isinstance(fields, dict) or isinstance(fields.get("prompt"), list):
        return None
    if any(fields.get(name) not in (None, 1) for name in _SEVERAL) or any(fields.get(name) for name in _OTHERWISE):
        return None
    streamed = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
    return replace(question, body=orjson.dumps(fields | streamed))


class PiecedAnswer:
    """The whole answer that these events amount to, as one JSON object."""

    content_type = "application/json; charset=utf-8"
    usage = None

    def __init__(self, events: EngineAnswer, max_event_bytes: int) -> None:
        self._events = events
        self._max_event_bytes = max_event_bytes
        self.status = events.status

    async def chunks(self) -> AsyncIterator[bytes]:
        """The object, once all its pieces are there.

        Raises:
            EngineRefused: the engine said in mid-answer that it cannot go on.
            EngineFull: it said so for want of memory.
            EngineBroke: the stream ended before the answer did, or made no sense.
        """
        splitter = EventSplitter(self._max_event_bytes)
        whole = _Whole()
        async for chunk in self._events.chunks():
            for event in split_events(splitter.feed(chunk)):
                whole.add(event)
        whole.add(splitter.finish())
        yield whole.dump()


class _Whole:
    """Chunks of OpenAI's chat or text completions, added up: one choice, text only."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._said: dict[str, list[str]] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._is_chat = False

    def add(self, event: bytes) -> None:
        """One event with its end; what carries no chunk is passed over."""
        if (failure := read_error_event(event)) is not None:
            raise engine_error(failure)
        data = data_of(event).strip()
        if not data or data == b"[DONE]":
            return
        try:
            self._add_chunk(orjson.loads(data))
        except (ValueError, TypeError, AttributeError, LookupError) as exc:
            raise bad_answer("the engine's stream is not in OpenAI's form") from exc

    def dump(self) -> bytes:
        """The whole answer; EngineBroke if its last piece never came."""
        if self._choice.get("finish_reason") is None:
            raise broke_off()
        said: dict[str, Any] = {name: "".join(parts) for name, parts in self._said.items()}
        choice = self._choice | ({"logprobs": self._logprobs} if self._logprobs else {})
        if self._is_chat:
            choice["message"] = {"role": "assistant", "content": ""} | said
        else:
            choice = {"text": "", "logprobs": None} | said | choice
        return orjson.dumps({"choices": [choice]} | self._top)

    def _add_chunk(self, chunk: dict[str, Any] | None) -> None:
        if chunk is None:  # llama.cpp says `data: null` where a result has nothing to say
            return
        for choice in chunk.pop("choices"):
            delta = choice.pop("delta", None)
            self._is_chat = self._is_chat or delta is not None
            self._say({"text": choice.pop("text", None)} if delta is None else delta)
            for name, values in (choice.pop("logprobs", None) or {}).items():
                self._logprobs.setdefault(name, []).extend(values)
            self._choice |= {name: value for name, value in choice.items() if value is not None}
        chunk.pop("prompt_progress", None)
        chunk["object"] = chunk["object"].removesuffix(".chunk")
        self._top |= chunk

    def _say(self, delta: dict[str, Any]) -> None:
        for name, value in delta.items():
            if value is not None and name != "role":
                if not isinstance(value, str):
                    raise TypeError(f"{name} is not text")
                self._said.setdefault(name, []).append(value)
