"""Errors of engines, in whatever shape they come, as a Failure: a sentence, a stable code, and whether to try again."""

import re
from dataclasses import replace

import orjson

from common.wire import Failure
from provider.errors import DISCONNECTED, EngineBroke, EngineError, EngineFull, EngineRefused, ModelGone

MAX_MESSAGE_CHARS = 2000

CODES = {
    400: "invalid_request",
    401: "engine_unauthorized",
    403: "engine_unauthorized",
    404: "not_found",
    413: "request_too_large",
    422: "invalid_request",
    429: "engine_overloaded",
    503: "engine_unavailable",
    504: "engine_timeout",
}
"""What to call an error of an engine that has no code of its own, by its status."""

_STATUSES = {
    "invalid_request_error": 400,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 503,
}
"""What an error in mid-stream would have been as an answer, by its type, where it tells no status."""

_NO_MEMORY = re.compile(
    r"out of memory|more system memory|enough (?:available |free |gpu )*(?:memory|resources)"
    r"|insufficient system resources|(?:failed|unable) to allocate|cudamalloc failed|erroroutofdevicememory"
    r"|no available memory",
    re.IGNORECASE,
)
"""How Ollama, llama.cpp, vLLM and LM Studio, and what they run on, say that a model doesn't fit."""

_NO_MODEL = re.compile(r"\bmodels?\b.*(?:not found|does not exist|not loaded|unloaded)", re.IGNORECASE | re.DOTALL)
_NOT_LOADED = re.compile("failed to load model|no models loaded|model is unloaded", re.IGNORECASE)
"""How LM Studio begins to say that it cannot load a model; it says so as 400 or 404, want of memory included."""


def read_failure(status: int, body: bytes) -> Failure:
    """Read an error answer of an engine.

    A 4xx is the client's own and is never tried again, but for 408, 425 and 429 and for 401 and 403: those are between
    this provider and its engine, so the client hears 502 and another node may do better.
    """
    message, code, kind, param = _read_body(body)
    if status in (401, 403):
        return Failure(502, "engine_unauthorized", "the engine refused this provider's credentials", retryable=True)
    if status < 500 and status not in (408, 425, 429):
        return Failure(
            status,
            code or CODES.get(status, "engine_refused"),
            message or f"the engine answered {status}",
            type=kind or "invalid_request_error",
            param=param,
        )
    return Failure(
        status if status in (429, 503, 504) else 502,
        code or CODES.get(status, "engine_error"),
        message or f"the engine answered {status}",
        retryable=True,
        type=kind or "server_error",
        param=param,
    )


def engine_error(failure: Failure) -> EngineError:
    """What to raise for a failure of which the client has heard nothing yet.

    Only trouble of the engine's own is taken for want of memory: a refusal may quote the request, and with it words
    that a client put there to be tried for ever.
    """
    is_unloaded = _NOT_LOADED.match(failure.message) is not None
    if (failure.retryable or is_unloaded) and _NO_MEMORY.search(failure.message):
        return EngineFull(failure.message)
    is_unknown = failure.status == 404 and _NO_MODEL.search(failure.message) is not None
    if is_unloaded or is_unknown or failure.code == "model_not_found":
        return ModelGone(replace(failure, code="model_not_found", retryable=True))
    return EngineRefused(failure)


def too_long(what: str, limit_bytes: int) -> EngineBroke:
    """The error for an event or a line that is longer than anything sensible."""
    message = f"the engine sent {what} of more than {limit_bytes} bytes"
    return EngineBroke(Failure(502, "engine_bad_stream", message, retryable=False))


def broke_off() -> EngineBroke:
    """The error for an answer that ended too early."""
    return EngineBroke(Failure(502, DISCONNECTED, "the engine broke off its answer", retryable=True))


def bad_answer(message: str) -> EngineBroke:
    """The error for an answer of which no sense can be made."""
    return EngineBroke(Failure(502, "engine_bad_answer", message, retryable=True))


def too_large(limit_bytes: int) -> EngineBroke:
    """For an answer that says more than this."""
    return EngineBroke(Failure(502, "answer_too_large", f"the answer is longer than {limit_bytes} bytes"))


def may_hold_error(block: bytes) -> bool:
    """Whether it is worth looking closer at a piece of an answer; if not, no part of it is an error."""
    return b"error" in block


def read_error_event(event: bytes) -> Failure | None:
    """A stream event that is an error of the engine, or None.

    `data: {"error": …}` (llama.cpp, vLLM, Anthropic's form), `data: {"type": "error", …}` and `response.failed`
    (OpenAI's responses), `data: {"object": "error", …}` (vLLM until 2025).
    """
    if not may_hold_error(event):
        return None
    payload = b""
    for line in event.splitlines():  # an `event:` line or a comment may stand before
        if line.startswith(b"data:"):
            payload = line.removeprefix(b"data:").strip()
        elif line.startswith(b"error:"):  # llama.cpp until late in 2025
            payload = b'{"error":%b}' % line.removeprefix(b"error:").strip()
    return read_error_line(payload)


def read_error_line(line: bytes) -> Failure | None:
    """A JSON object that is an error of the engine (a line of Ollama's: `{"error": "…"}`), or None."""
    if not line.startswith(b"{"):
        return None
    try:
        return read_error_object(orjson.loads(line))
    except ValueError:
        return None


def read_error_object(parsed: object) -> Failure | None:
    """The same, parsed. LM Studio says 200 to paths that it doesn't have, and an error."""
    if not isinstance(parsed, dict):
        return None
    error = parsed.get("error")
    response = parsed.get("response")
    if not error and parsed.get("type") == "response.failed" and isinstance(response, dict):
        error = response.get("error") or "the engine's response failed"
    elif not error and (parsed.get("type") == "error" or parsed.get("object") == "error"):
        error = {name: value for name, value in parsed.items() if name != "type"}
    if not error:
        return None
    status = error.get("code") if isinstance(error, dict) else None
    if not isinstance(status, int) or not 400 <= status < 600:
        kind = error.get("type") if isinstance(error, dict) else None
        status = _STATUSES.get(kind, 500) if isinstance(kind, str) else 500
    return read_failure(status, orjson.dumps({"error": error}))


def _read_body(body: bytes) -> tuple[str, str, str, str | None]:
    """(message, code, type, param) of an error body; empty where it doesn't say."""
    try:
        parsed = orjson.loads(body)
    except ValueError:
        text = body.decode(errors="replace").strip()
        return ("" if text.startswith("<") else text[:MAX_MESSAGE_CHARS]), "", "", None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    if isinstance(error, str):
        return error[:MAX_MESSAGE_CHARS], "", "", None
    if not isinstance(error, dict):
        return "", "", "", None
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    code, kind, param = error.get("code"), error.get("type"), error.get("param")
    return (
        (message if isinstance(message, str) else orjson.dumps(message).decode())[:MAX_MESSAGE_CHARS],
        code if isinstance(code, str) else "",
        kind if isinstance(kind, str) else "",
        param if isinstance(param, str) else None,
    )
