"""The paths that a request can reach on an engine, and what the engine must be able to do for them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


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


class Endpoint(NamedTuple):
    """What is to be known of a path."""

    needs: Capability
    """What an engine must be able to do for it."""
    operation: str
    """What it does, as OpenTelemetry's `gen_ai.operation.name` says it."""
    conversation: str = ""
    """The member of its body that holds the conversation, where clients send all of that every time."""
    is_continuable: bool = False
    """Whether another node can go on with an answer that has begun."""


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(Capability.CHAT, "chat", "messages", is_continuable=True),
    "/v1/completions": Endpoint(Capability.COMPLETIONS, "text_completion", "prompt", is_continuable=True),
    "/v1/embeddings": Endpoint(Capability.EMBEDDINGS, "embeddings"),
    "/v1/responses": Endpoint(Capability.RESPONSES, "chat", "input"),
    "/v1/messages": Endpoint(Capability.MESSAGES, "chat", "messages"),
    "/v1/messages/count_tokens": Endpoint(Capability.COUNT_TOKENS, "count_tokens"),
    "/api/chat": Endpoint(Capability.CHAT, "chat", "messages", is_continuable=True),
    "/api/generate": Endpoint(Capability.CHAT, "text_completion", "prompt", is_continuable=True),
    "/api/embed": Endpoint(Capability.EMBEDDINGS, "embeddings"),
}
"""The only paths that a request can reach on an engine. Nothing here pulls, deletes or configures."""
