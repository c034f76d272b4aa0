"""What the test engine says: numbered tokens, in the shapes of an OpenAI-compatible server.

Token i is the text `t<i> `, so any answer's text alone shows a lost, repeated or reordered token. A text that already
ends in such a run is continued after it, as a model continues a prefilled answer: a completion's prompt by every kind,
a chat's last message by those that do so. Where the run's last blank is missing, the next token begins with it.
"""

import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

import orjson

from tests.doubles.faults import Faults
from tests.doubles.reading import numbered

DEFAULT_TOKENS = 16
_LAST_TOKEN = re.compile(r"t(\d{1,9}) ?\Z")
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class MalformedRequestError(ValueError):
    """The body is not one an OpenAI-compatible server would take."""


class Api(StrEnum):
    """The two generating endpoints; the value is the prefix of their answers' ids."""

    CHAT = "chatcmpl"
    COMPLETION = "cmpl"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What the engine needs of a request body: which tokens to say, and how."""

    api: Api
    model: str
    first: int
    """Number of the first token: more than 0 where the answer has begun."""
    gap: str
    """What stands in front of it: the blank that the beginning lacks, or nothing."""
    count: int
    stream: bool
    has_usage_event: bool
    prompt_tokens: int
    double: object
    """The body's own faults, not yet checked."""

    @classmethod
    def read(cls, api: Api, body: bytes) -> Self:
        """Read a request body; raises MalformedRequestError."""
        fields = read_fields(body)
        text = all_text(fields) if api is Api.CHAT else _read_prompt(fields)
        options = fields.get("stream_options") or {}
        first, gap = run_end(cls.begun(api, fields))
        return cls(
            api=api,
            model=fields["model"],
            first=first,
            gap=gap,
            count=token_limit(fields, first=first),
            stream=fields.get("stream") is True,
            has_usage_event=isinstance(options, dict) and options.get("include_usage") is True,
            prompt_tokens=len(text.split()),
            double=fields.get("double") or {},
        )

    @classmethod
    def begun(cls, api: Api, fields: dict[str, Any]) -> str:
        """The text that is gone on with: a prompt; of chats nothing, for each is answered anew."""
        return _read_prompt(fields) if api is Api.COMPLETION else ""

    def answer(self, faults: Faults, *, fingerprint: str) -> "Answer":
        """What the engine says to it."""
        return Answer(self, faults, fingerprint=fingerprint)


class Answer:
    """One generation's bytes. What never changes is formatted once: a token must cost next to nothing."""

    content_type = "text/event-stream"
    before_content = b""
    """What stands in a chat's delta before the token."""
    last_delta: Mapping[str, str] = MappingProxyType({})

    def __init__(self, request: GenerationRequest, faults: Faults, *, fingerprint: str) -> None:
        self._request = request
        self._end = b"\r\n\r\n" if faults.crlf else b"\n\n"
        self._head = {
            "id": f"{request.api}-{'0' * 24 if faults.same_each_time else secrets.token_hex(12)}",
            "object": "chat.completion.chunk" if request.api is Api.CHAT else "text_completion",
            "created": 0 if faults.same_each_time else int(time.time()),
            "model": request.model,
            "system_fingerprint": "fp_double" if faults.same_each_time else fingerprint,
        }
        before, after = self._token_frame()
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + before
        if faults.event_bytes is not None:
            pad = faults.event_bytes - len(self._before + b"t0 " + after + b',"pad":""}' + self._end)
            after += b',"pad":"%s"' % (b"." * max(0, pad))
        self._after = after + b"}" + self._end
        self.comment = b": ping" + self._end
        self.broken_event = b'data: {"id":"' + self._end

    def opening(self) -> list[bytes]:
        """Return the events before the first token: chat says whose turn it is, completions say nothing."""
        if self._request.api is Api.COMPLETION:
            return []
        return [self._event({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})]

    def tokens(self, start: int, stop: int) -> bytes:
        """Return the joined events of the tokens start..stop-1, counted from this answer's first."""
        first, before, after = self._request.first, self._before, self._after
        events = [b"%bt%d %b" % (before, first + place, after) for place in range(start, stop)]
        if start == 0 and events and self._request.gap:
            events[0] = b"%b t%d %b" % (before, first, after)
        return b"".join(events)

    def ending(self, *, has_done: bool) -> list[bytes]:
        """Return the events after the last token."""
        said: dict[str, Any] = {"delta": dict(self.last_delta)} if self._request.api is Api.CHAT else {"text": ""}
        events = [self._event({**said, "finish_reason": "length"})]
        if self._request.has_usage_event:
            events.append(self._data(orjson.dumps({**self._head, "choices": [], "usage": self._usage()})))
        return [*events, self.done()] if has_done else events

    def done(self) -> bytes:
        return self._data(b"[DONE]")

    def error_event(self) -> bytes:
        """Return the event by which vLLM tells of a failure under way."""
        return self._data(openai_error("EngineCore had an issue.", kind="InternalServerError", code=500))

    def document(self) -> bytes:
        """Return the whole answer of a non-streamed request."""
        request = self._request
        text = request.gap + numbered(request.first, request.first + request.count)
        said: dict[str, Any] = {"text": text}
        kind = "text_completion"
        if request.api is Api.CHAT:
            said = {"message": {"role": "assistant", "content": text}}
            kind = "chat.completion"
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": "length"}
        return orjson.dumps({**self._head, "object": kind, "choices": [choice], "usage": self._usage()})

    def _token_frame(self) -> tuple[bytes, bytes]:
        tail = b',"logprobs":null,"finish_reason":null}]'
        if self._request.api is Api.CHAT:
            return b',"choices":[{"index":0,"delta":{%b"content":"' % self.before_content, b'"}' + tail
        return b',"choices":[{"index":0,"text":"', b'"' + tail

    def _event(self, said: dict[str, Any]) -> bytes:
        return self._data(orjson.dumps({**self._head, "choices": [{"index": 0, **said, "logprobs": None}]}))

    def _data(self, payload: bytes) -> bytes:
        return b"data: " + payload + self._end

    def _usage(self) -> dict[str, int]:
        prompt, said = self._request.prompt_tokens, self._request.count
        return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def openai_error(message: str, *, kind: str, code: str | int | None = None) -> bytes:
    """Return an error body as OpenAI and vLLM write it."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def llama_error(status: int, message: str = "") -> bytes:
    """Return an error body as llama.cpp writes it; a 503 is its answer while the model loads."""
    message = message or ("Loading model" if status == 503 else f"scripted failure {status}")
    kind = _ERROR_TYPES.get(status, "server_error")
    return orjson.dumps({"error": {"code": status, "message": message, "type": kind}})


def run_end(text: str) -> tuple[int, str]:
    """How many tokens are in the run `t0 t1 ... tk ` that text ends with, and what is missing before the next.

    Without its last blank the run is the same to a model: it says the blank with the next token. Without a run 0 tokens
    are there, and nothing is missing.
    """
    last = _LAST_TOKEN.search(text)
    # A run of n tokens has at least 3n characters; this keeps an absurd number from being spelled out.
    if last is None or 3 * (count := int(last[1]) + 1) > len(text) + 1:
        return 0, ""
    run = numbered(0, count)
    if text.endswith(run):
        return count, ""
    return (count, " ") if text.endswith(run.rstrip()) else (0, "")


def read_fields(body: bytes) -> dict[str, Any]:
    """The fields of a body that names a model; raises MalformedRequestError."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"body is not JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("model"), str):
        raise MalformedRequestError("body must be an object with a model")
    return fields


def all_text(fields: dict[str, Any]) -> str:
    """All that was said so far in a chat; raises MalformedRequestError."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise MalformedRequestError("messages must be a list of objects")
    return " ".join(_texts(messages))


def last_message(fields: dict[str, Any]) -> str:
    """The words of a chat's last message if it is the assistant's; empty if not."""
    last = fields["messages"][-1:]
    if not last or last[0].get("role") != "assistant":
        return ""
    return "".join(_texts(last))


def _texts(messages: Iterable[dict[str, Any]]) -> Iterable[str]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield from (str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)


def _read_prompt(fields: dict[str, Any]) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise MalformedRequestError("prompt must be one string")
    return prompt


def token_limit(fields: dict[str, Any], *names: str, first: int = 0) -> int:
    """How many tokens may be said: the first of these fields, or of OpenAI's, that is set.

    Where none is, a whole answer has so many by itself; `first` of them were said before.
    """
    named = [fields.get(name) for name in names or ("max_completion_tokens", "max_tokens")]
    limit = next((value for value in named if value is not None), max(0, DEFAULT_TOKENS - first))
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise MalformedRequestError(f"token limit must be a whole number, got {limit!r}")
    return limit
