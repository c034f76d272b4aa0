"""The two limits of an engine call: to its first event, and from each event to the next."""

import asyncio


class StallClock:
    """Two limits in one timer: to the first event, and from each event to the next (design, rule 13).

    Moving a timer at each event would cost more than the event; it is moved at most every half second, and set so much
    later: a stall may be seen late by that, but no event that is in time is taken for one.
    """

    GRAIN_S = 0.5

    def __init__(self, first_s: float, gap_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._gap_s = gap_s
        self._grain_s = min(self.GRAIN_S, gap_s / 4)
        self._moved_at = 0.0
        self.begun_at: float | None = None
        """When the first event came, on the loop's clock."""
        self.timer = asyncio.timeout(first_s)

    @property
    def has_begun(self) -> bool:
        """Whether an event has come."""
        return self.begun_at is not None

    def tick(self) -> None:
        """An event came."""
        now = self._loop.time()
        if self.begun_at is None or now - self._moved_at >= self._grain_s:
            if self.begun_at is None:
                self.begun_at = now
            self._moved_at = now
            self.timer.reschedule(now + self._gap_s + self._grain_s)
