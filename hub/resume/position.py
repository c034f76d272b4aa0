"""Where in a stream a client stopped reading: `1-57.3`, an entry of the reply and an event's place in it, from 1.

`1-57` is behind the whole entry.
"""

import re
from typing import NamedTuple

from common.wire import MAX_ATTEMPT, EntryId
from hub.errors import InvalidRequest

MOST_EVENTS = 2**31
"""In one entry; far more than fit into one."""
_FORM = re.compile(r"([1-9][0-9]{0,9})-(0|[1-9][0-9]{0,18})(?:\.([1-9][0-9]{0,9}))?", re.ASCII)


class Position(NamedTuple):
    """The last event that a client has read."""

    entry: EntryId
    event: int | None
    """None: it has all of the entry."""

    def __str__(self) -> str:
        return str(self.entry) if self.event is None else f"{self.entry}.{self.event}"

    @classmethod
    def parse(cls, said: str) -> "Position":
        """Read what the line `id:` of an event said.

        Raises:
            InvalidRequest: no event ever had such an id.
        """
        form = _FORM.fullmatch(said)
        attempt, n, event = map(int, form.groups("0")) if form else (0, 0, 0)
        if not 1 <= attempt <= MAX_ATTEMPT or event > MOST_EVENTS:
            raise InvalidRequest(
                "Last-Event-ID: expected the id of an event of this stream, such as 1-57.3",
                code="invalid_position",
                param="last-event-id",
            )
        return cls(EntryId(attempt, n), event or None)


def not_in(position: Position) -> InvalidRequest:
    """What is said where a stream has no such event."""
    return InvalidRequest(
        f"Last-Event-ID: this answer has no event {position}; leave it out to read from the beginning.",
        code="invalid_position",
        param="last-event-id",
    )
