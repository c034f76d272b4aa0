"""Cuts a byte stream into whole events, so that no reply entry ever holds half of one."""

import re
from typing import Any

import orjson

from common.wire import Failure
from provider.errors import EngineBroke

# A blank line ends an event; a line ends with LF, CRLF or CR (WHATWG HTML, 9.2.5). A CR before LF is no end by itself.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LONGEST_END = 4


class EventSplitter:
    """Takes bytes as they come, gives back the whole events among them as they were."""

    def __init__(self, max_event_bytes: int) -> None:
        self._rest = b""
        self._max_event_bytes = max_event_bytes

    def feed(self, chunk: bytes) -> bytes:
        """Every event that is complete with this chunk, in one piece; empty if none is.

        Raises:
            EngineBroke: an event is longer than allowed.
        """
        if not self._rest and chunk.endswith(b"\n\n"):  # nearly always: engines write event by event
            return chunk
        looked_at = max(0, len(self._rest) - _LONGEST_END)
        buffered = self._rest + chunk
        cut = 0
        for match in _EVENT_END.finditer(buffered, looked_at):
            cut = match.end()
        self._rest = buffered[cut:]
        if len(self._rest) > self._max_event_bytes:
            message = f"the engine sent an event of more than {self._max_event_bytes} bytes"
            raise EngineBroke(Failure(502, "engine_bad_stream", message, retryable=False))
        return buffered[:cut]

    def finish(self) -> bytes:
        """What is left when the stream ends: an event without its blank line, or nothing."""
        rest, self._rest = self._rest, b""
        return rest


def is_only_comments(events: bytes) -> bool:
    """Whether these events carry nothing but comments and blank lines, as engines send to keep a connection open."""
    return events[:1] in b":\r\n" and all(line.startswith(b":") for line in re.split(rb"[\r\n]+", events) if line)


def is_only_opening(events: bytes) -> bool:
    """Whether these are chat chunks that only say whose turn it is, as engines send before the first token.

    Comments between them change nothing.
    """
    for event in split_events(events):
        if is_only_comments(event):
            continue
        try:
            chunk = orjson.loads(event.strip().removeprefix(b"data:"))
            if not chunk["choices"] or not all(_is_silent(choice) for choice in chunk["choices"]):
                return False
        except (ValueError, TypeError, LookupError, AttributeError):
            return False
    return True


def _is_silent(choice: dict[str, Any]) -> bool:
    said = [value for name, value in choice["delta"].items() if name != "role"]
    return not any(said) and choice.get("finish_reason") is None


def split_events(events: bytes) -> list[bytes]:
    """Whole events one by one, each with its end."""
    cuts = [match.end() for match in _EVENT_END.finditer(events)]
    if not cuts or cuts[-1] != len(events):
        cuts.append(len(events))
    return [events[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
