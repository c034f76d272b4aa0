"""What differs between the APIs a hub speaks: how an error looks, how a stream ends, and how one is kept alive."""

from typing import Any, NamedTuple, Protocol

from common.types import ModelId
from hub.errors import RequestFailed


class Waiting(NamedTuple):
    """A request whose stream has nothing to say."""

    model: ModelId
    standing: str
    """How it stands, in words."""


class ApiShape(Protocol):
    """One API's own forms."""

    stream_type: str
    """The media type of its streams."""
    stream_end: bytes
    """The event that closes every stream of this API; empty if it has none."""
    request_field: str
    """What the body of an error calls the id of its request; empty if it has no room for it."""

    def error_fields(self, error: RequestFailed) -> dict[str, Any]:
        """An error as the JSON object that is the body of an answer, but for its request's id."""
        ...

    def error_event(self, error: RequestFailed) -> bytes:
        """An error as an event of a stream that has begun, its end included."""
        ...

    def keep_alive(self, waiting: Waiting) -> bytes:
        """What a stream says while there is nothing to say; in words where the API has room for them."""
        ...
