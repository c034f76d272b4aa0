"""The paths that a request can reach on an engine, and what the engine must be able to do for them."""

from collections.abc import Mapping
from enum import StrEnum


class Capability(StrEnum):
    """What an engine can do; the registry shows these words."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    """Of a prompt for messages."""
    NATIVE = "native"
    """It has Ollama's own API; for engines without it the provider translates, so no path asks for this."""
    PREFILL = "prefill"
    """It goes on with an answer that the request already holds the beginning of."""


ENDPOINTS: Mapping[str, Capability] = {
    "/v1/chat/completions": Capability.CHAT,
    "/v1/completions": Capability.COMPLETIONS,
    "/v1/embeddings": Capability.EMBEDDINGS,
    "/v1/responses": Capability.RESPONSES,
    "/v1/messages": Capability.MESSAGES,
    "/v1/messages/count_tokens": Capability.COUNT_TOKENS,
    "/api/chat": Capability.CHAT,
    "/api/generate": Capability.CHAT,
    "/api/embed": Capability.EMBEDDINGS,
}
"""The only paths that a request can reach on an engine, and what it must be able to do for them. Nothing here pulls,
deletes or configures."""

CONTINUABLE = frozenset({"/v1/chat/completions", "/v1/completions", "/api/chat", "/api/generate"})
"""The paths whose answers another node can go on with once they have begun."""
