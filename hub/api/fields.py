"""The fields of request bodies that more than one API has. A hub reads what it must know; all else travels unread."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

ModelName = Annotated[StrictStr, Field(min_length=1, max_length=256)]
PositiveInt = Annotated[StrictInt, Field(ge=1)]
Temperature = Annotated[float, Field(strict=True)]
# Lists stop at their first bad item: to gather a million of them would take the hub seconds.
Texts = Annotated[list[StrictStr], Field(fail_fast=True)]
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]
Messages = Annotated[Objects, Field(min_length=1)]


class JobBody(BaseModel):
    """What every body that becomes a job has."""

    model: ModelName

    @property
    def wants_stream(self) -> bool:
        """Whether the answer is to be streamed; what is never streamed has no word for it."""
        return False


class StreamableBody(JobBody):
    """One whose answer is streamed if it says so."""

    stream: StrictBool | None = None

    @property
    def wants_stream(self) -> bool:
        """Whether the answer is to be streamed."""
        return bool(self.stream)
