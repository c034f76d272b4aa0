"""OpenAI's forms of errors and stream ends."""

import orjson

from common.types import ModelId
from hub.api.sse import EVENT_STREAM, sse_comment
from hub.errors import RequestFailed


class OpenAIShape:
    """`{"error": {message, type, param, code}}`; streams end with `data: [DONE]`, after an error too."""

    stream_type = EVENT_STREAM
    stream_end = b"data: [DONE]\n\n"

    def error_body(self, error: RequestFailed, request_id: str = "") -> bytes:  # noqa: ARG002 - other APIs need it
        """The error object."""
        fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        return orjson.dumps({"error": fields})

    def error_event(self, error: RequestFailed) -> bytes:
        """The error object as a data event, which OpenAI's SDKs raise as APIError, then the end."""
        return b"data: " + self.error_body(error) + b"\n\n" + self.stream_end

    def keep_alive(self, said: str, model: ModelId) -> bytes:  # noqa: ARG002 - other APIs need it
        """A comment, which every client of server-sent events passes over."""
        return sse_comment(said)


class ResponsesShape(OpenAIShape):
    """Streams of responses: every event has a name and a type, and nothing follows the last one."""

    stream_end = b""

    def error_event(self, error: RequestFailed) -> bytes:
        """The event `error`, whose fields stand side by side in this API."""
        fields = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return b"event: error\ndata: " + orjson.dumps(fields | {"sequence_number": 0}) + b"\n\n"


OPENAI = OpenAIShape()
RESPONSES = ResponsesShape()
