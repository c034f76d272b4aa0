"""OpenAI's forms of errors and stream ends."""

from typing import Any

import orjson

from hub.api.sse import EventStreams
from hub.errors import RequestFailed


class OpenAIShape(EventStreams):
    """`{"error": {message, type, param, code}}`; streams end with `data: [DONE]`, after an error too."""

    stream_end = b"data: [DONE]\n\n"
    request_field = ""

    def error_fields(self, error: RequestFailed) -> dict[str, Any]:
        """The error object."""
        fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        return {"error": fields}

    def error_event(self, error: RequestFailed) -> bytes:
        """The error object as a data event, which OpenAI's SDKs raise as APIError, then the end."""
        return b"data: " + orjson.dumps(self.error_fields(error)) + b"\n\n" + self.stream_end


class ResponsesShape(OpenAIShape):
    """Streams of responses: every event has a name and a type, and nothing follows the last one."""

    stream_end = b""

    def error_event(self, error: RequestFailed) -> bytes:
        """The event `error`, whose fields stand side by side in this API."""
        fields = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return b"event: error\ndata: " + orjson.dumps(fields | {"sequence_number": 0}) + b"\n\n"


OPENAI = OpenAIShape()
RESPONSES = ResponsesShape()
