"""The fields of OpenAI's request bodies that a hub looks at. All others travel unread."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

from hub.api.bodies import UNSUPPORTED
from hub.api.fields import JobBody, Messages, Objects, PositiveInt, StreamableBody, Temperature, Texts

Tokens = Annotated[list[StrictInt], Field(fail_fast=True)]
TextOrTokens = StrictStr | Texts | Tokens | Annotated[list[Tokens], Field(fail_fast=True)]
"""A text, texts, tokens, or lists of tokens."""


class ModelBody(StreamableBody):
    """What the bodies of chats and completions have."""

    max_tokens: PositiveInt | None = None
    n: PositiveInt | None = None
    temperature: Temperature | None = None
    top_p: Temperature | None = None
    stop: StrictStr | Texts | None = None


class ChatBody(ModelBody):
    """`POST /v1/chat/completions`."""

    messages: Messages
    max_completion_tokens: PositiveInt | None = None
    tools: Objects | None = None


class CompletionBody(ModelBody):
    """`POST /v1/completions`."""

    prompt: TextOrTokens


class EmbeddingBody(JobBody):
    """`POST /v1/embeddings`."""

    input: TextOrTokens
    dimensions: PositiveInt | None = None


def _nothing_is_kept(value: object) -> object:
    if value:
        raise PydanticCustomError(
            UNSUPPORTED, "This grid keeps no responses: none can be gone on with, or fetched later."
        )
    return value


NothingKept = AfterValidator(_nothing_is_kept)


class ResponseBody(StreamableBody):
    """`POST /v1/responses`. `store` makes no difference: nothing is ever kept."""

    input: StrictStr | Messages
    instructions: StrictStr | None = None
    max_output_tokens: PositiveInt | None = None
    temperature: Temperature | None = None
    top_p: Temperature | None = None
    tools: Objects | None = None
    previous_response_id: Annotated[StrictStr | None, NothingKept] = None
    conversation: Annotated[StrictStr | dict[str, Any] | None, NothingKept] = None
    background: Annotated[StrictBool | None, NothingKept] = None
