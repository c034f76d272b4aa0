"""The broker's clock, the one time that machines agree on: deadlines are in it, so skew between them does no harm."""

import time

from common.broker.broker import Broker
from common.broker.errors import broker_errors

SURE_MS = 100.0
"""A round trip that takes no longer makes a good estimate, ms."""


class BrokerClock:
    """Estimates the broker's Unix time from the local monotonic clock and a sample now and then."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sampled_at_s = float("-inf")
        self._synced_at: int | None = None
        """How many reconnections there had been at the last `sync`."""
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000

    def now_ms(self) -> int:
        """Unix time in ms, as the broker would tell it (the local clock's before the first `sync`)."""
        return int(time.monotonic() * 1000 + self._offset_ms)

    async def sync(self) -> None:
        """Ask the broker for its time; half the round trip is taken for the way back.

        An answer that was long in coming, from a broker that hung, may have been made at its beginning or its end: it
        changes the estimate only as far as that cannot be right, being an estimate; one that is far off is made anew.

        Raises:
            BrokerError: it did not answer; the last estimate stays.
        """
        reconnections = self._broker.reconnections.count
        before_ms = time.monotonic() * 1000
        with broker_errors():
            seconds, micros = await self._broker.commands.time()
        after_ms = time.monotonic() * 1000
        told_ms = seconds * 1000 + micros / 1000
        least_ms, most_ms = told_ms - after_ms, told_ms - before_ms
        may_be_right = self._synced_at is not None and least_ms - SURE_MS <= self._offset_ms <= most_ms + SURE_MS
        if after_ms - before_ms <= SURE_MS or not may_be_right:
            self._offset_ms = (least_ms + most_ms) / 2
        else:
            self._offset_ms = min(max(self._offset_ms, least_ms), most_ms)
        self._synced_at = reconnections
        self._sampled_at_s = after_ms / 1000

    async def keep(self, most_s: float = float("inf")) -> None:
        """Ask for the time unless that was done since the last reconnection: another server has another clock.

        Args:
            most_s: how long ago that may be; two machines' clocks drift by some 10 ms in 100 s, but one may be set.

        Raises:
            BrokerError: as `sync`.
        """
        is_old = time.monotonic() - self._sampled_at_s > most_s
        if is_old or self._synced_at != self._broker.reconnections.count:
            await self.sync()
