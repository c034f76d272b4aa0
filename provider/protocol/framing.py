"""The forms in which answers are streamed, and what a relay must know of each."""

from typing import Protocol

from common.wire import Failure, Usage
from provider.protocol.events import EventSplitter
from provider.protocol.lines import LineSplitter


class Framing(Protocol):
    """How one form of stream is cut and read. `block`: whole frames, as many as came together."""

    end: bytes
    """What ends a frame."""

    def feed(self, chunk: bytes) -> bytes:
        """Every frame that is complete with this chunk, in one piece; empty if none is.

        Raises:
            EngineBroke: a frame is longer than allowed.
        """
        ...

    def finish(self) -> bytes:
        """What is left when the stream ends: a frame without its end, or nothing."""
        ...

    def is_silence(self, block: bytes, /) -> bool:
        """Whether it carries nothing, as engines send to keep a connection open."""
        ...

    def is_opening(self, block: bytes, /) -> bool:
        """Whether it only says that an answer will come."""
        ...

    def split(self, block: bytes, /) -> list[bytes]:
        """Its frames one by one, each with its end."""
        ...

    def read_error(self, frame: bytes, /) -> Failure | None:
        """The error that a frame tells of, or None."""
        ...

    def read_usage(self, tail: bytes, opening: bytes, /) -> Usage:
        """The tokens that an answer took, from its last frames and its first."""
        ...

    def is_end(self, block: bytes, /) -> bool:
        """Whether its last frame says that nothing more will come."""
        ...

    def is_broken_off(self, tail: bytes, /) -> bool:
        """Whether a stream that ends with these frames ends too early, as far as its form tells."""
        ...


def framing_of(content_type: str, max_frame_bytes: int) -> Framing | None:
    """How answers of this type are cut; None: they are no streams."""
    match content_type.partition(";")[0].strip().lower():
        case "text/event-stream":
            return EventSplitter(max_frame_bytes)
        case "application/x-ndjson" | "application/ndjson" | "application/jsonl":
            return LineSplitter(max_frame_bytes)
        case _:
            return None
