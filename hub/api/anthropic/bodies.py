"""The fields of Anthropic's request bodies that a hub looks at. All others travel unread."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from hub.api.openai.bodies import ModelName, Objects, PositiveInt, Temperature, Texts


class _Prompt(BaseModel):
    """What both bodies have."""

    model_config = ConfigDict(extra="ignore")

    model: ModelName
    messages: Annotated[Objects, Field(min_length=1)]
    system: StrictStr | Objects | None = None
    tools: Objects | None = None


class MessageBody(_Prompt):
    """`POST /v1/messages`."""

    stream: StrictBool | None = None
    max_tokens: PositiveInt | None = None
    """Anthropic asks for it; engines know how to do without."""
    temperature: Temperature | None = None
    top_p: Temperature | None = None
    stop_sequences: Texts | None = None


class CountTokensBody(_Prompt):
    """`POST /v1/messages/count_tokens`."""

    stream: ClassVar[None] = None
