"""Ollama's forms: `{"error": "…"}`, and lines of JSON as streams."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from hub.api.shape import Waiting
from hub.errors import RequestFailed

LINES = "application/x-ndjson"
_NAMES = "chat generate embed embeddings tags ps show version pull push create copy delete blobs"
OLLAMA_PATHS = tuple(f"/api/{name}" for name in _NAMES.split())
"""Where this API begins; the other paths under `/api` are this hub's own."""


class OllamaShape:
    """Streams end with a line that says `done`, which the engine writes."""

    stream_type = LINES
    stream_end = b""
    request_field = ""

    def __init__(self, nothing: Mapping[str, Any]) -> None:
        self._nothing = nothing
        """How a line of this path says that there is nothing to say."""

    def error_fields(self, error: RequestFailed) -> dict[str, Any]:
        """The sentence, which is all that this API's clients look at."""
        return {"error": error.message}

    def error_event(self, error: RequestFailed) -> bytes:
        """A line, which Ollama's clients raise as their ResponseError."""
        return orjson.dumps(self.error_fields(error)) + b"\n"

    def keep_alive(self, waiting: Waiting) -> bytes:
        """A line without a word: this API has no comments, and its clients stumble over an empty line."""
        created_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return orjson.dumps({"model": waiting.model, "created_at": created_at, **self._nothing, "done": False}) + b"\n"


OLLAMA_CHAT = OllamaShape({"message": {"role": "assistant", "content": ""}})
OLLAMA_GENERATE = OllamaShape({"response": ""})
OLLAMA = OllamaShape({})
"""Of all that is not streamed."""
