"""OpenAI's forms of errors and stream ends."""

import orjson

from common.types import ModelId
from hub.api.sse import EVENT_STREAM, sse_comment
from hub.errors import RequestFailed


class OpenAIShape:
    """`{"error": {message, type, param, code}}`; streams end with `data: [DONE]`, after an error too."""

    stream_type = EVENT_STREAM
    stream_end = b"data: [DONE]\n\n"

    def error_body(self, error: RequestFailed) -> bytes:
        """The error object."""
        fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        return orjson.dumps({"error": fields})

    def error_event(self, error: RequestFailed) -> bytes:
        """The error object as a data event, which OpenAI's SDKs raise as APIError, then the end."""
        return b"data: " + self.error_body(error) + b"\n\n" + self.stream_end

    def keep_alive(self, said: str, model: ModelId) -> bytes:  # noqa: ARG002 - other APIs need it
        """A comment, which every client of server-sent events passes over."""
        return sse_comment(said)


OPENAI = OpenAIShape()
