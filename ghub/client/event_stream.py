"""Server-sent events as they come: events, and comments too, which say how long one waits.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html. Of it `id` and `retry` are passed over.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ghub.errors import CommandError

MAX_EVENT_BYTES = 32 * 2**20
"""Far above any event of a hub: the picture of a grid of 1,000 nodes takes about 1 MiB."""


class EventTooLong(CommandError):
    """What comes is no stream of events that anybody could hold."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event."""

    name: str
    """`message` unless the stream says another."""
    data: str


@dataclass(frozen=True, slots=True)
class StreamComment:
    """A line that is there for people and proxies."""

    text: str


def read_stream(chunks: Iterable[bytes]) -> Iterator[StreamEvent | StreamComment]:
    """Read events and comments out of the bytes of an answer; one that was not ended is dropped.

    Raises:
        EventTooLong: an event passes the limit.
    """
    name, data, size = "", list[str](), 0
    for line in _lines(chunks):
        if not line:
            if data:
                yield StreamEvent(name or "message", "\n".join(data))
            name, data, size = "", [], 0
        elif line.startswith(b":"):
            yield StreamComment(_text(line[1:]).strip())
        else:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            size += len(value)
            if size > MAX_EVENT_BYTES:
                raise EventTooLong(f"an event is longer than {MAX_EVENT_BYTES} bytes")
            if field == b"event":
                name = _text(value)
            elif field == b"data":
                data.append(_text(value))


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    begun = bytearray()
    for chunk in chunks:
        half = b"\r" if begun.endswith(b"\r") else b""  # of a line's end, perhaps
        del begun[len(begun) - len(half) :]
        *whole, last = (half + chunk).splitlines(keepends=True) or [b""]
        if last.endswith(b"\n"):
            whole, last = [*whole, last], b""
        for line in whole:
            yield bytes(begun + line).rstrip(b"\r\n")
            begun.clear()
        begun += last
        if len(begun) > MAX_EVENT_BYTES:
            raise EventTooLong(f"a line is longer than {MAX_EVENT_BYTES} bytes")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
