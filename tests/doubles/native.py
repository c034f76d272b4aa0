"""What Ollama says in its own way: its native API's lines of JSON, and its accent in OpenAI's chats."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

import orjson

from tests.doubles.faults import Faults
from tests.doubles.reading import numbered
from tests.doubles.scripted import (
    Answer,
    Api,
    GenerationRequest,
    MalformedRequestError,
    all_text,
    last_message,
    read_fields,
    run_end,
    token_limit,
)


class OllamaAnswer(Answer):
    """OpenAI's form as versions before August 2026 wrote it: every delta says whose turn it is, and none opens."""

    before_content = b'"role":"assistant",'
    last_delta = MappingProxyType({"role": "assistant", "content": ""})

    def opening(self) -> list[bytes]:
        return []


@dataclass(frozen=True, slots=True)
class OllamaRequest(GenerationRequest):
    """What a body asks for in OpenAI's API; it goes on with chats as with its own."""

    @classmethod
    def begun(cls, api: Api, fields: dict[str, Any]) -> str:
        """The text that is gone on with: of prompts nothing, for they are put into a template first."""
        return last_message(fields).rstrip() if api is Api.CHAT else ""

    def answer(self, faults: Faults, *, fingerprint: str) -> Answer:  # noqa: ARG002 - all of them have the same
        """What the engine says to it."""
        kind = OllamaAnswer if self.api is Api.CHAT else Answer
        return kind(self, faults, fingerprint="fp_ollama")


class NativeApi(StrEnum):
    """The value is the field that an answer's text stands in."""

    CHAT = "message"
    GENERATE = "response"


@dataclass(frozen=True, slots=True)
class NativeRequest:
    """What a body of /api/chat or /api/generate asks for."""

    api: NativeApi
    model: str
    first: int
    gap: str
    count: int
    stream: bool
    """Theirs, unlike OpenAI's, are streams unless told otherwise."""
    is_load: bool
    """Without a prompt the model is loaded, or with `keep_alive` 0 unloaded, and nothing is said."""
    is_unload: bool
    prompt_tokens: int
    is_limited: bool
    double: object

    @classmethod
    def read(cls, api: NativeApi, body: bytes) -> Self:
        """Read a request body; raises MalformedRequestError."""
        fields = read_fields(body)
        options = fields.get("options") or {}
        if not isinstance(options, dict):
            raise MalformedRequestError("json: cannot unmarshal options into Go struct field")
        begun = ""
        if api is NativeApi.CHAT:
            fields["messages"] = fields.get("messages") or []
            text = all_text(fields)
            begun = last_message(fields).rstrip()  # as many models' templates trim it
        else:
            text = fields.get("prompt") or ""
            if not isinstance(text, str):
                raise MalformedRequestError("json: cannot unmarshal prompt into Go struct field of type string")
            if fields.get("raw") is True:  # other prompts are put into a template first
                begun = text
        first, gap = run_end(begun)
        limit = options.get("num_predict")
        is_limited = isinstance(limit, int) and limit >= 0  # -1: as many as the model likes
        is_load = not (fields.get("messages") if api is NativeApi.CHAT else text)
        return cls(
            api=api,
            model=fields["model"],
            first=first,
            gap=gap,
            count=0 if is_load else token_limit(options if is_limited else {}, "num_predict", first=first),
            stream=fields.get("stream") is not False and not is_load,
            is_load=is_load,
            is_unload=is_load and fields.get("keep_alive") in (0, "0"),
            prompt_tokens=len(text.split()),
            is_limited=is_limited,
            double=fields.get("double") or {},
        )

    def answer(self, faults: Faults, *, fingerprint: str) -> "NativeAnswer":  # noqa: ARG002 - no such field in this API
        """What the engine says to it."""
        return NativeAnswer(self, faults)


class NativeAnswer:
    """One generation's lines."""

    content_type = "application/x-ndjson"
    comment = b""

    def __init__(self, request: NativeRequest, faults: Faults) -> None:
        self._request = request
        self._is_same_each_time = faults.same_each_time
        self._began_ns = time.monotonic_ns()
        self.broken_event = b'{"model":"\n'

    def opening(self) -> list[bytes]:
        return []

    def tokens(self, start: int, stop: int) -> bytes:
        """Return the joined lines of the tokens start..stop-1, counted from this answer's first."""
        first = self._request.first
        texts = [f"t{first + place} " for place in range(start, stop)]
        if start == 0 and texts:
            texts[0] = self._request.gap + texts[0]
        return b"".join([self._line(self._said(text)) for text in texts])

    def ending(self, *, has_done: bool) -> list[bytes]:
        return [self._line(self._said("") | self._last())] if has_done else []

    def done(self) -> bytes:
        return b""

    def error_event(self) -> bytes:
        return self._line({"error": "an error was encountered while running the model"})

    def document(self) -> bytes:
        """Return the whole answer of a non-streamed request."""
        request = self._request
        if request.is_load:
            reason = "unload" if request.is_unload else "load"
            return orjson.dumps(self._said("") | {"done": True, "done_reason": reason})
        text = request.gap + numbered(request.first, request.first + request.count)
        return orjson.dumps(self._said(text) | self._last())

    def _said(self, text: str) -> dict[str, Any]:
        said: Any = {"role": "assistant", "content": text} if self._request.api is NativeApi.CHAT else text
        moment = datetime.fromtimestamp(0, UTC) if self._is_same_each_time else datetime.now(UTC)
        created_at = moment.isoformat().replace("+00:00", "Z")
        return {"model": self._request.model, "created_at": created_at, self._request.api.value: said, "done": False}

    def _last(self) -> dict[str, Any]:
        request = self._request
        total_ns = 3_000_000 if self._is_same_each_time else 3 + time.monotonic_ns() - self._began_ns
        context = {} if request.api is NativeApi.CHAT else {"context": [*range(request.prompt_tokens + request.count)]}
        return {
            "done": True,
            "done_reason": "length" if request.is_limited else "stop",
            **context,
            "total_duration": total_ns,
            "load_duration": total_ns // 3,
            "prompt_eval_count": request.prompt_tokens,
            "prompt_eval_duration": total_ns // 3,
            "eval_count": request.count,
            "eval_duration": total_ns // 3,
        }

    def _line(self, fields: dict[str, Any]) -> bytes:
        return orjson.dumps(fields) + b"\n"
