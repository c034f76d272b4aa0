"""The fields of Ollama's request bodies that a hub looks at. All others travel unread."""

from typing import Any

from pydantic import AliasChoices, BaseModel, Field, StrictStr

from hub.api.fields import JobBody, ModelName, Objects, StreamableBody, Texts


class _Body(StreamableBody):
    options: dict[str, Any] | None = None
    format: StrictStr | dict[str, Any] | None = None

    @property
    def wants_stream(self) -> bool:
        """Unless it says that it doesn't."""
        return self.stream is not False


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


class EmbedBody(JobBody):
    """`POST /api/embed`: a text or several; never streamed."""

    input: StrictStr | Texts | None = None


class ShowBody(BaseModel):
    """`POST /api/show`; older clients say `name`."""

    model: ModelName = Field(validation_alias=AliasChoices("model", "name"))
