"""The fields of OpenAI's request bodies that a hub looks at. All others travel unread."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

from hub.api.bodies import UNSUPPORTED

ModelName = Annotated[StrictStr, Field(min_length=1, max_length=256)]
PositiveInt = Annotated[StrictInt, Field(ge=1)]
Temperature = Annotated[float, Field(strict=True)]
# Lists stop at their first bad item: to gather a million of them would take the hub seconds.
Texts = Annotated[list[StrictStr], Field(fail_fast=True)]
Tokens = Annotated[list[StrictInt], Field(fail_fast=True)]
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]
TextOrTokens = StrictStr | Texts | Tokens | Annotated[list[Tokens], Field(fail_fast=True)]
"""A text, texts, tokens, or lists of tokens."""


class ModelBody(BaseModel):
    """What the bodies of chats and completions have."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName
    stream: StrictBool | None = None
    max_tokens: PositiveInt | None = None
    n: PositiveInt | None = None
    temperature: Temperature | None = None
    top_p: Temperature | None = None
    stop: StrictStr | Texts | None = None


class ChatBody(ModelBody):
    """`POST /v1/chat/completions`."""

    messages: Annotated[Objects, Field(min_length=1)]
    max_completion_tokens: PositiveInt | None = None
    tools: Objects | None = None


class CompletionBody(ModelBody):
    """`POST /v1/completions`."""

    prompt: TextOrTokens


class EmbeddingBody(BaseModel):
    """`POST /v1/embeddings`."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName
    stream: ClassVar[None] = None
    input: TextOrTokens
    dimensions: PositiveInt | None = None


def _nothing_is_kept(value: object) -> object:
    if value:
        raise PydanticCustomError(
            UNSUPPORTED, "This grid keeps no responses: none can be gone on with, or fetched later."
        )
    return value


NothingKept = AfterValidator(_nothing_is_kept)


class ResponseBody(BaseModel):
    """`POST /v1/responses`. `store` makes no difference: nothing is ever kept."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName
    stream: StrictBool | None = None
    input: StrictStr | Annotated[Objects, Field(min_length=1)]
    instructions: StrictStr | None = None
    max_output_tokens: PositiveInt | None = None
    temperature: Temperature | None = None
    top_p: Temperature | None = None
    tools: Objects | None = None
    previous_response_id: Annotated[StrictStr | None, NothingKept] = None
    conversation: Annotated[StrictStr | dict[str, Any] | None, NothingKept] = None
    background: Annotated[StrictBool | None, NothingKept] = None
