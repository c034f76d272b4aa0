"""OpenAI's responses as its SDKs need them, from llama.cpp, which leaves out much of what the API promises.

`client.responses.stream()` follows an answer by the places of its items and parts, and stops at the first event that
doesn't tell them; so do types that are checked (seen with openai 3.54 and xllamacpp 2026.10). What an engine does say
is never changed, and events that lack nothing stay the bytes that they are.
"""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from provider.protocol.engine import MAX_WHOLE_BYTES, EngineAnswer, Question, read_whole
from provider.protocol.events import EventSplitter, data_of, split_events

_OF_PARTS = frozenset(
    {
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_text.annotation.added",
        "response.refusal.delta",
        "response.refusal.done",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
    }
)
"""Events that tell which part of an item they belong to."""
_WITH_LOGPROBS = frozenset({"response.output_text.delta", "response.output_text.done"})
_ECHOED: Mapping[str, object] = {
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
}
"""Fields of a response that repeat what was asked for, and what they say where nothing was."""


class CompletedResponse:
    """An answer of `/v1/responses`, streamed or whole, with what is missing filled in."""

    usage = None

    def __init__(self, answer: EngineAnswer, question: Question, max_event_bytes: int) -> None:
        self._answer = answer
        self._question = question
        self._max_event_bytes = max_event_bytes
        self.status = answer.status
        self.content_type = answer.content_type

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer's bytes.

        Raises:
            EngineBroke: the connection was lost before the end, or it or an event is longer than allowed.
        """
        missing = _Missing(self._question)
        if not self.content_type.startswith("text/event-stream"):
            yield missing.fill_whole(await read_whole(self._answer, MAX_WHOLE_BYTES))
            return
        splitter = EventSplitter(self._max_event_bytes)
        async for chunk in self._answer.chunks():
            if events := splitter.feed(chunk):
                yield b"".join([missing.fill_event(event) for event in split_events(events)])
        if rest := splitter.finish():
            yield rest


class _Missing:
    """What one answer's events leave out: where in it they stand, and what was asked for."""

    def __init__(self, question: Question) -> None:
        try:
            asked = orjson.loads(question.body)
        except ValueError:
            asked = None
        said = asked if isinstance(asked, dict) else {}
        told = {name: default if said.get(name) is None else said[name] for name, default in _ECHOED.items()}
        self._response = {
            "created_at": int(time.time()),
            "model": question.model,
            "error": None,
            "incomplete_details": None,
            "output": [],
            **told,
        }
        self._items: list[object] = []
        """Ids of the items, in their order; None for one that has none."""
        self._parts = 0
        """Parts of the last item that were opened."""
        self._events = 0

    def fill_whole(self, body: bytes) -> bytes:
        """A whole answer."""
        try:
            response = orjson.loads(body)
        except ValueError:
            return body
        if not isinstance(response, dict) or response.get("object") != "response":
            return body
        self._fill_response(response)
        return orjson.dumps(response)

    def fill_event(self, event: bytes) -> bytes:
        """One event, with its end; what is no event of this API stays as it is."""
        try:
            payload = orjson.loads(data_of(event))
        except ValueError:
            return event
        kind = payload.get("type") if isinstance(payload, dict) else None
        if not isinstance(kind, str) or not kind.startswith("response."):
            return event
        before = payload.copy()
        self._fill_payload(kind, payload)
        self._events += 1
        return event if payload == before else b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(payload))

    def _fill_payload(self, kind: str, payload: dict[str, Any]) -> None:
        payload.setdefault("sequence_number", self._events)
        if isinstance(response := payload.get("response"), dict):
            payload["response"] = self._fill_response({**response})
            return
        item = payload.get("item")
        item_id = item.get("id") if isinstance(item, dict) else payload.get("item_id")
        if kind == "response.output_item.added":
            self._items.append(item_id)
            self._parts = 0
        payload.setdefault("output_index", self._place_of(item_id))
        if kind not in _OF_PARTS:
            return
        self._parts += kind == "response.content_part.added"
        payload.setdefault("content_index", max(0, self._parts - 1))
        if kind in _WITH_LOGPROBS:
            payload.setdefault("logprobs", [])
        if isinstance(part := payload.get("part"), dict) and part.get("type") == "output_text":
            payload["part"] = {"annotations": [], "logprobs": [], **part}

    def _place_of(self, item_id: object) -> int:
        """The item's place; that of the last one for an id that was not announced."""
        last = max(0, len(self._items) - 1)
        return self._items.index(item_id) if item_id is not None and item_id in self._items else last

    def _fill_response(self, response: dict[str, Any]) -> dict[str, Any]:
        """A response, itself filled."""
        for name, value in self._response.items():
            response.setdefault(name, value)
        if isinstance(usage := response.get("usage"), dict):
            details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
            response["usage"] = {**details, **usage}
        return response
