"""What differs between the APIs a hub speaks: how an error looks, and how a stream ends."""

from typing import Protocol

from hub.errors import RequestFailed


class ApiShape(Protocol):
    """One API's own forms."""

    stream_end: bytes
    """The event that closes every stream of this API; empty if it has none."""

    def error_body(self, error: RequestFailed) -> bytes:
        """An error as the body of an answer."""
        ...

    def error_event(self, error: RequestFailed) -> bytes:
        """An error as an event of a stream that has begun, its end included."""
        ...
