"""Anthropic's forms of errors and stream ends."""

import orjson

from common.types import ModelId
from hub.api.sse import EVENT_STREAM, sse_comment
from hub.errors import RequestFailed

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Its clients tell errors apart by these words; other 4xx are the request's own, other 5xx ours."""


class AnthropicShape:
    """`{"type": "error", "error": {type, message}, "request_id"}`; streams end with their last event."""

    stream_type = EVENT_STREAM
    stream_end = b""

    def error_body(self, error: RequestFailed, request_id: str = "") -> bytes:
        """The error object."""
        return orjson.dumps(_fields(error) | {"request_id": request_id or None})

    def error_event(self, error: RequestFailed) -> bytes:
        """The event `error`, which Anthropic's SDKs raise."""
        return b"event: error\ndata: " + orjson.dumps(_fields(error)) + b"\n\n"

    def keep_alive(self, said: str, model: ModelId) -> bytes:  # noqa: ARG002 - other APIs need it
        """A comment, which every client of server-sent events passes over."""
        return sse_comment(said)


def _fields(error: RequestFailed) -> dict[str, object]:
    otherwise = "invalid_request_error" if error.status < 500 else "api_error"
    return {"type": "error", "error": {"type": _TYPES.get(error.status, otherwise), "message": error.message}}


ANTHROPIC = AnthropicShape()
