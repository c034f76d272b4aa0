"""The fields of OpenAI's request bodies that a hub looks at. All others travel unread."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

PositiveInt = Annotated[StrictInt, Field(ge=1)]
Temperature = Annotated[float, Field(strict=True)]
# Lists stop at their first bad item: to gather a million of them would take the hub seconds.
Texts = Annotated[list[StrictStr], Field(fail_fast=True)]
Tokens = Annotated[list[StrictInt], Field(fail_fast=True)]
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class ModelBody(BaseModel):
    """What all inference bodies have."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[StrictStr, Field(min_length=1, max_length=256)]
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
    """`POST /v1/completions`: a text, texts, tokens, or lists of tokens."""

    prompt: StrictStr | Texts | Tokens | Annotated[list[Tokens], Field(fail_fast=True)]
