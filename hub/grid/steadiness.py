"""Whether what is missing in the broker is gone for good, or only not back yet."""

import time
from collections.abc import Callable

from common.broker.reconnections import Reconnections


class Steadiness:
    """Since when the broker has been there without a break, as far as this process knows.

    After a break every entry with a TTL may have run out and every key may be lost. Those who live write theirs anew,
    but not all in the same moment. A process that has just begun knows nothing of the time before.
    """

    def __init__(self, reconnections: Reconnections, now: Callable[[], float] = time.monotonic) -> None:
        self._reconnections = reconnections
        self._now = now
        self._seen = reconnections.count
        self._since = now()

    def shake(self) -> None:
        """The broker did not answer, or answered what makes no sense."""
        self._since = self._now()

    @property
    def since_s(self) -> float:
        """The last break, or when this process began, by the clock of this object."""
        if self._reconnections.count != self._seen:
            self._seen = self._reconnections.count
            self.shake()
        return self._since

    def lasts(self, for_s: float) -> bool:
        """Whether it has been there for so long."""
        return self._now() - self.since_s >= for_s
