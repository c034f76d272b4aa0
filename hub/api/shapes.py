"""Which API a path belongs to, and so the shape of its errors."""

from hub.api.anthropic.shape import ANTHROPIC
from hub.api.ollama.shape import OLLAMA, OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_PATHS
from hub.api.openai.shape import OPENAI, RESPONSES
from hub.api.shape import ApiShape

_SHAPES: tuple[tuple[str, ApiShape], ...] = (
    ("/v1/messages", ANTHROPIC),
    *((path, OLLAMA) for path in OLLAMA_PATHS),
)
"""Beginnings of paths and their shapes, the first that fits; OpenAI's for all others, our own paths included."""


def shape_of(path: str) -> ApiShape:
    """The shape in which a path's errors are told."""
    return next((shape for head, shape in _SHAPES if path == head or path.startswith(f"{head}/")), OPENAI)


_STREAM_SHAPES: dict[str, ApiShape] = {
    "/v1/responses": RESPONSES,
    "/api/chat": OLLAMA_CHAT,
    "/api/generate": OLLAMA_GENERATE,
}
"""Paths whose streams have forms of their own beside their API's."""


def stream_shape_of(endpoint: str) -> ApiShape:
    """The shape in which an answer of this path is told, streamed or whole."""
    return _STREAM_SHAPES.get(endpoint, shape_of(endpoint))
