"""What differs between the APIs a hub speaks: how an error looks, how a stream ends, and how one is kept alive."""

from typing import Protocol

from common.types import ModelId
from hub.errors import RequestFailed


class ApiShape(Protocol):
    """One API's own forms."""

    stream_type: str
    """The media type of its streams."""
    stream_end: bytes
    """The event that closes every stream of this API; empty if it has none."""

    def error_body(self, error: RequestFailed, request_id: str = "") -> bytes:
        """An error as the body of an answer."""
        ...

    def error_event(self, error: RequestFailed) -> bytes:
        """An error as an event of a stream that has begun, its end included."""
        ...

    def keep_alive(self, said: str, model: ModelId) -> bytes:
        """What a stream says while there is nothing to say: `said` where the API has room for words."""
        ...
