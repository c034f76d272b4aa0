"""How long a reply that the broker has forgotten may still come back."""

import time

from common.broker.reconnections import Reconnections

REOPEN_S = 15.0
"""What a hub gets, from the moment at which this node reached the broker again, to find that out itself and give back
what it knows of its replies. Longer than it takes a hub to notice, short for an engine that may work for nobody."""


class ReopenWindow:
    """Whether the broker came back a moment ago: what is missing there now is not gone for good.

    Somebody has to look now and then: a reconnection counts from the first look after it.
    """

    def __init__(self, reconnections: Reconnections) -> None:
        self._reconnections = reconnections
        self._seen = reconnections.count
        self._ends_at_s = float("-inf")

    def note_trouble(self) -> None:
        """A command went wrong: the broker may have forgotten things, whether or not a connection broke."""
        self._ends_at_s = time.monotonic() + REOPEN_S

    @property
    def is_open(self) -> bool:
        """Whether a hub may yet reopen what is missing."""
        if self._reconnections.count != self._seen:
            self._seen = self._reconnections.count
            self.note_trouble()
        return time.monotonic() < self._ends_at_s
