"""The fields of Anthropic's request bodies that a hub looks at. All others travel unread."""

from pydantic import StrictStr

from hub.api.fields import JobBody, Messages, Objects, PositiveInt, StreamableBody, Temperature, Texts


class _Prompt(JobBody):
    """What both bodies have."""

    messages: Messages
    system: StrictStr | Objects | None = None
    tools: Objects | None = None


class MessageBody(_Prompt, StreamableBody):
    """`POST /v1/messages`."""

    max_tokens: PositiveInt | None = None
    """Anthropic asks for it; engines know how to do without."""
    temperature: Temperature | None = None
    top_p: Temperature | None = None
    stop_sequences: Texts | None = None


class CountTokensBody(_Prompt):
    """`POST /v1/messages/count_tokens`."""
