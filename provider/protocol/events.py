"""Cuts a byte stream into whole server-sent events, so that no reply entry ever holds half of one."""

import re
from typing import Any

import orjson

from common.wire import Usage
from provider.protocol.failures import read_error_event, too_long
from provider.protocol.usage import read_events_usage

# A blank line ends an event; a line ends with LF, CRLF or CR (WHATWG HTML, 9.2.5). A CR before LF is no end by itself.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LONGEST_END = 4

_OPENINGS = frozenset({"message_start", "ping", "response.created", "response.queued", "response.in_progress"})
"""Events of messages and responses that only say that an answer will come."""
_EMPTY_PARTS = {
    "content_block_start": "content_block",
    "response.output_item.added": "item",
    "response.content_part.added": "part",
}
"""Events that open a part of the answer, and where it stands in them; a part for words is empty at first."""
_WORDY_PARTS = frozenset({"text", "thinking", "message", "reasoning", "output_text", "reasoning_text"})

_LAST_TYPES = ("message_stop", "response.completed", "response.incomplete")
"""Last events of messages and responses; streams of chunks end with a word of their own."""
_LAST_MARKS = tuple(one.encode() for one in _LAST_TYPES)
_LAST_LINES = (b"data: [DONE]", b"data:[DONE]")


def is_only_comments(events: bytes) -> bool:
    """Whether these events carry nothing but comments and blank lines, as engines send to keep a connection open."""
    return events[:1] in b":\r\n" and all(line.startswith(b":") for line in re.split(rb"[\r\n]+", events) if line)


def is_only_opening(events: bytes) -> bool:
    """Whether these events only say whose turn it is, as engines send before the first token.

    Comments between them change nothing.
    """
    for event in split_events(events):
        if is_only_comments(event):
            continue
        try:
            if not _is_opening(orjson.loads(data_of(event))):
                return False
        except (ValueError, TypeError, LookupError, AttributeError):
            return False
    return True


def split_events(events: bytes) -> list[bytes]:
    """Whole events one by one, each with its end."""
    cuts = [match.end() for match in _EVENT_END.finditer(events)]
    if not cuts or cuts[-1] != len(events):
        cuts.append(len(events))
    return [events[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]


class EventSplitter:
    """Server-sent events. Takes bytes as they come, gives back the whole events among them as they were."""

    end = b"\n\n"
    is_silence = staticmethod(is_only_comments)
    is_opening = staticmethod(is_only_opening)
    split = staticmethod(split_events)
    read_error = staticmethod(read_error_event)

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
            raise too_long("an event", self._max_event_bytes)
        return buffered[:cut]

    def finish(self) -> bytes:
        """What is left when the stream ends: an event without its blank line, or nothing."""
        rest, self._rest = self._rest, b""
        return rest

    def read_usage(self, tail: bytes, opening: bytes) -> Usage:
        """From the last event that tells it, and of the prompt perhaps from the first."""
        return read_events_usage(tail, opening)

    def is_end(self, block: bytes) -> bool:
        """Whether the last event says that nothing more will come."""
        line = block.rstrip()
        line = line[line.rfind(b"\n") + 1 :]
        if line in _LAST_LINES:
            return True
        stop, completed, incomplete = _LAST_MARKS
        if stop not in line and completed not in line and incomplete not in line:
            return False  # nearly always
        try:
            return orjson.loads(data_of(line)).get("type") in _LAST_TYPES
        except (ValueError, AttributeError):
            return False

    def is_broken_off(self, _tail: bytes) -> bool:
        """Never, as far as one can tell: some end with `[DONE]`, some with an event, some just so."""
        return False


def data_of(event: bytes) -> bytes:
    """What stands in the data of an event, whether or not it has a name."""
    return b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))


def _is_opening(chunk: dict[str, Any]) -> bool:
    if (kind := chunk.get("type")) is not None:
        if kind in _OPENINGS:
            return True
        part = chunk[_EMPTY_PARTS[kind]]
        return part["type"] in _WORDY_PARTS and not (part.get("text") or part.get("thinking") or part.get("content"))
    return bool(chunk["choices"]) and all(_is_silent(choice) for choice in chunk["choices"])


def _is_silent(choice: dict[str, Any]) -> bool:
    said = [value for name, value in choice["delta"].items() if name != "role"]
    return not any(said) and choice.get("finish_reason") is None
