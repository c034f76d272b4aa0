"""Errors of engines, in whatever shape they come, as a Failure: a sentence, a stable code, and whether to try again."""

import orjson

from common.wire import Failure

MAX_MESSAGE_CHARS = 2000

_CODES = {
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
            code or _CODES.get(status, "engine_refused"),
            message or f"the engine answered {status}",
            type=kind or "invalid_request_error",
            param=param,
        )
    return Failure(
        status if status in (429, 503, 504) else 502,
        code or _CODES.get(status, "engine_error"),
        message or f"the engine answered {status}",
        retryable=True,
        type=kind or "server_error",
        param=param,
    )


def read_error_event(event: bytes) -> Failure | None:
    """A stream event that is an error of the engine (llama.cpp, vLLM: `data: {"error": …}`), or None."""
    payload = b""
    for line in event.splitlines():  # an `event:` line or a comment may stand before
        if line.startswith(b"data:"):
            payload = line.removeprefix(b"data:").strip()
        elif line.startswith(b"error:"):  # llama.cpp until late in 2025
            payload = b'{"error":%b}' % line.removeprefix(b"error:").strip()
    if not payload.startswith(b"{"):
        return None
    try:
        parsed = orjson.loads(payload)
    except ValueError:
        return None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if not error:
        return None
    status = error.get("code") if isinstance(error, dict) else None
    return read_failure(status if isinstance(status, int) and 400 <= status < 600 else 500, payload)


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
