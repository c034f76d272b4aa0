"""Anthropic's forms of errors and stream ends."""

from typing import Any

import orjson

from hub.api.sse import EventStreams
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


class AnthropicShape(EventStreams):
    """`{"type": "error", "error": {type, message}, "request_id"}`; streams end with their last event."""

    stream_end = b""
    request_field = "request_id"

    def error_fields(self, error: RequestFailed) -> dict[str, Any]:
        """The error object."""
        otherwise = "invalid_request_error" if error.status < 500 else "api_error"
        return {"type": "error", "error": {"type": _TYPES.get(error.status, otherwise), "message": error.message}}

    def error_event(self, error: RequestFailed) -> bytes:
        """The event `error`, which Anthropic's SDKs raise."""
        return b"event: error\ndata: " + orjson.dumps(self.error_fields(error)) + b"\n\n"


ANTHROPIC = AnthropicShape()
