"""The fields of Ollama's request bodies that a hub looks at. All others travel unread."""

from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, StrictStr

ModelName = Annotated[StrictStr, Field(min_length=1, max_length=256)]
# Lists stop at their first bad item: to gather a million of them would take the hub seconds.
Texts = Annotated[list[StrictStr], Field(fail_fast=True)]
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: ModelName
    stream: StrictBool | None = None
    options: dict[str, Any] | None = None
    format: StrictStr | dict[str, Any] | None = None


class ChatBody(_Body):
    """`POST /api/chat`; without messages it only loads the model."""

    messages: Objects | None = None
    tools: Objects | None = None


class GenerateBody(_Body):
    """`POST /api/generate`; without a prompt it only loads the model."""

    prompt: StrictStr | None = None
    system: StrictStr | None = None
    suffix: StrictStr | None = None
    images: Texts | None = None


class EmbedBody(BaseModel):
    """`POST /api/embed`: a text or several; never streamed."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName
    stream: ClassVar[None] = None
    input: StrictStr | Texts | None = None


class ShowBody(BaseModel):
    """`POST /api/show`; older clients say `name`."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName = Field(validation_alias=AliasChoices("model", "name"))
