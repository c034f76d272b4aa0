"""Writes into a stream of server-sent events where each of them stands, so that a client can go on behind it."""

import re

from common.wire import EntryId
from hub.resume.position import Position, not_in

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_OWN_ID = re.compile(rb"(?m)^id(?::[^\r\n]*)?(?:\r\n|\n|\r|$)")


class EventIds:
    """Adds the line `id: <entry>.<event>` to each event, and leaves out those up to a position.

    Args:
        after: the last event that the client has; None: it wants all of them.
    """

    def __init__(self, after: Position | None = None) -> None:
        self._after = after
        self._is_behind = after is None

    def write(self, entry: EntryId, data: bytes) -> bytes:
        """The events of an entry, those that the client has not read.

        Raises:
            InvalidRequest: the stream has passed the place where the client's last event should be.
        """
        first = 1
        if not self._is_behind and self._after is not None:
            if entry < self._after.entry:
                return b""
            self._find(entry, self._after)
            if self._after.event is None:
                return b""
            first = self._after.event + 1
        return self._numbered(entry, data, first)

    def skip(self, entry: EntryId, data: bytes) -> bytes:
        """The same without ids, for a client that has whole entries.

        Raises:
            InvalidRequest: the stream has passed the entry that the client has, or only a part of it.
        """
        if self._is_behind or self._after is None:
            return data
        if entry < self._after.entry:
            return b""
        if self._after.event is not None:
            raise not_in(self._after)
        self._find(entry, self._after)
        return b""

    def check_found(self) -> None:
        """Raise InvalidRequest if the stream has ended without the client's last event."""
        if not self._is_behind and self._after is not None:
            raise not_in(self._after)

    def _find(self, entry: EntryId, after: Position) -> None:
        """Take note that the client's place has been reached; InvalidRequest if it is not there."""
        if entry > after.entry:
            raise not_in(after)
        self._is_behind = True

    def _numbered(self, entry: EntryId, data: bytes, first: int) -> bytes:
        parts: list[bytes] = []
        event = 0
        for block in events_of(data):
            if all(line.startswith(b":") for line in block.splitlines() if line):  # a comment
                parts += [block] if event + 1 >= first else []
                continue
            event += 1
            if event >= first:
                said = _OWN_ID.sub(b"", block) if b"id" in block[:2] or b"\nid" in block else block
                parts.append(b"id: %b.%d\n%b" % (str(entry).encode(), event, said))
        if self._after is not None and first - 1 > event:
            raise not_in(self._after)
        return b"".join(parts)


def events_of(data: bytes) -> list[bytes]:
    """Its events and comments one by one, each with the blank line that ends it."""
    blocks: list[bytes] = []
    at = 0
    for blank in _BLANK_LINE.finditer(data):
        blocks.append(data[at : blank.end()])
        at = blank.end()
    return [block for block in [*blocks, data[at:]] if block.strip()]
