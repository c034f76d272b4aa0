"""The APIs whose streams name their events: OpenAI's Responses and Anthropic's Messages, as engines serve them."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import orjson

from tests.doubles.faults import Faults
from tests.doubles.reading import numbered
from tests.doubles.scripted import MalformedRequestError, read_fields, token_limit


class EventApi(StrEnum):
    """The value is the prefix of the answers' ids."""

    RESPONSES = "resp"
    MESSAGES = "msg"


@dataclass(frozen=True, slots=True)
class EventRequest:
    """What a body of /v1/responses or /v1/messages asks for."""

    api: EventApi
    model: str
    count: int
    stream: bool
    prompt_tokens: int
    double: object

    @classmethod
    def read(cls, api: EventApi, body: bytes) -> Self:
        """Read a request body; raises MalformedRequestError."""
        fields = read_fields(body)
        name, limit = ("input", "max_output_tokens") if api is EventApi.RESPONSES else ("messages", "max_tokens")
        if not isinstance(fields.get(name), str | list):
            raise MalformedRequestError(f"{name} must be given")
        words = len(orjson.dumps(fields[name]).split())
        stream = fields.get("stream") is True
        return cls(api, fields["model"], token_limit(fields, limit), stream, words, fields.get("double") or {})

    def answer(self, faults: Faults, *, fingerprint: str) -> "EventAnswer":  # noqa: ARG002 - these APIs have no such field
        """What the engine says to it."""
        kinds: dict[EventApi, Callable[..., EventAnswer]] = {
            EventApi.RESPONSES: ResponsesAnswer,
            EventApi.MESSAGES: MessagesAnswer,
        }
        return kinds[self.api](self, faults)


class EventAnswer:
    """What both have in common: `event:` lines, and no [DONE]."""

    content_type = "text/event-stream"
    comment = b": ping\n\n"
    broken_event = b'data: {"type":"\n\n'
    failure: dict[str, Any]

    def __init__(self, request: EventRequest, faults: Faults) -> None:
        self.request = request
        self.id = f"{request.api}_{'0' * 24 if faults.same_each_time else secrets.token_hex(12)}"
        self.text = numbered(0, request.count)
        self.usage = {"input_tokens": request.prompt_tokens, "output_tokens": request.count}

    def tokens(self, start: int, stop: int) -> bytes:
        """Return the joined events of the tokens start..stop-1."""
        return b"".join([self.event(self.piece(f"t{place} ")) for place in range(start, stop)])

    def done(self) -> bytes:
        return b""

    def error_event(self) -> bytes:
        return self.event(self.failure)

    def piece(self, text: str) -> dict[str, Any]:
        """The payload that carries some text."""
        raise NotImplementedError

    @staticmethod
    def event(payload: dict[str, Any]) -> bytes:
        """One event, named by its payload's type."""
        return b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), orjson.dumps(payload))


class ResponsesAnswer(EventAnswer):
    """OpenAI's Responses API, text only."""

    failure = {"type": "error", "code": "server_error", "message": "scripted failure", "param": None}  # noqa: RUF012

    def opening(self) -> list[bytes]:
        return [self.event({"type": "response.created", "response": self._response("in_progress", [])})]

    def piece(self, text: str) -> dict[str, Any]:
        place = {"item_id": "item_0", "output_index": 0, "content_index": 0}
        return {"type": "response.output_text.delta", **place, "delta": text}

    def ending(self, *, has_done: bool) -> list[bytes]:
        return [self.event({"type": "response.completed", "response": self._whole()})] if has_done else []

    def document(self) -> bytes:
        return orjson.dumps(self._whole())

    def _whole(self) -> dict[str, Any]:
        said = {"type": "output_text", "text": self.text, "annotations": []}
        message = {"type": "message", "id": "item_0", "role": "assistant", "status": "completed", "content": [said]}
        total = sum(self.usage.values())
        return self._response("completed", [message]) | {"usage": {**self.usage, "total_tokens": total}}

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": self.id, "object": "response", "created_at": 0, "model": self.request.model}
        return {**head, "status": status, "output": output}


class MessagesAnswer(EventAnswer):
    """Anthropic's Messages API, text only."""

    failure = {"type": "error", "error": {"type": "api_error", "message": "scripted failure"}}  # noqa: RUF012

    def opening(self) -> list[bytes]:
        begun = self._message([], None, {**self.usage, "output_tokens": 0})
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return [self.event({"type": "message_start", "message": begun}), self.event(block)]

    def piece(self, text: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}

    def ending(self, *, has_done: bool) -> list[bytes]:
        reason = {"stop_reason": "max_tokens", "stop_sequence": None}
        last = [self.event({"type": "message_stop"})] if has_done else []
        return [
            self.event({"type": "content_block_stop", "index": 0}),
            self.event({"type": "message_delta", "delta": reason, "usage": self.usage}),
            *last,
        ]

    def document(self) -> bytes:
        return orjson.dumps(self._message([{"type": "text", "text": self.text}], "max_tokens", self.usage))

    def _message(self, content: list[dict[str, Any]], reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
        head = {"id": self.id, "type": "message", "role": "assistant", "model": self.request.model}
        return {**head, "content": content, "stop_reason": reason, "stop_sequence": None, "usage": usage}
