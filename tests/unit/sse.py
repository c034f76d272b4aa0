"""A second opinion on Server-Sent Events: a slow, plain reader after WHATWG HTML 9.2.6, one byte at a time."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class SseReader:
    """Collects events (their lines, comments left out) and knows whether it stands between two events."""

    events: list[list[bytes]] = field(default_factory=list)
    comments: int = 0
    _line: bytearray = field(default_factory=bytearray)
    _event: list[bytes] = field(default_factory=list)
    _has_lines: bool = False
    _after_cr: bool = False

    @property
    def is_between_events(self) -> bool:
        """Whether no line and no event is half said."""
        return not self._line and not self._has_lines

    def feed(self, data: bytes) -> "SseReader":
        for byte in data:
            if byte == 0x0A and self._after_cr:  # the second half of a CRLF
                self._after_cr = False
                continue
            self._after_cr = byte == 0x0D
            if byte in (0x0A, 0x0D):
                self._end_line(bytes(self._line))
                self._line.clear()
            else:
                self._line.append(byte)
        return self

    def _end_line(self, line: bytes) -> None:
        if line.startswith(b":"):
            self.comments += 1
            self._has_lines = True
        elif line:
            self._event.append(line)
            self._has_lines = True
        else:
            if self._event:
                self.events.append(self._event)
            self._event = []
            self._has_lines = False


def read_blocks(blocks: Iterable[bytes]) -> list[list[bytes]]:
    """Events of blocks that are each read on their own, as a client after a reconnect would; fails on half events."""
    events = []
    for block in blocks:
        reader = SseReader().feed(block)
        assert reader.is_between_events, f"half an event in {block!r}"
        events += reader.events
    return events
