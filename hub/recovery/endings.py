"""Requests that this hub has ended a short while ago: a broker's server that takes over may not have heard of it.

Sentinels and clusters promote a replica that lacks the last writes. To it a request that ended just then may run on:
its job is claimed, its reply lacks the end. This hub's list may name it, or not: what was written once the replica
had taken over is there, and names are taken off the list last.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.streams.jobs import Ticket
from common.types import RequestId

LIMIT_S = 300.0
"""How long an ending is remembered: a broker that was away for longer has timed the rest out."""
SURE_S = 5.0
"""So long after it ended the broker has heard of it, unless that was away."""
DOUBT_S = 30.0
"""What ended so long before the broker broke may be forgotten: replicas lag by less."""
CALM_S = 10.0
"""So long after the last break those who write to the broker have found the server that answers now."""
MOST = 20_000

Final = Mapping[str, str | int | float]
"""The fields of its hash that tell how it ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended, where its job lay last (None: it had none), and when, in seconds."""

    final: Final
    ticket: Ticket | None
    at_s: float


class Endings:
    """How requests ended, the latest; `now` gives seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ended: OrderedDict[RequestId, Ending] = OrderedDict()
        self._first_break_s: float | None = None
        """Of the breaks since the broker was last asked what it knows."""
        self._last_break_s = 0.0

    def note(self, request: RequestId, final: Final, ticket: Ticket | None) -> None:
        """A request is over, and all was done to take it out of the broker."""
        self._ended[request] = Ending(final, ticket, self._now())
        while len(self._ended) > MOST or self._oldest_s < self._now() - LIMIT_S:
            self._ended.popitem(last=False)

    def find(self, request: RequestId) -> Ending | None:
        """How it ended, if that is so long ago that the broker must know."""
        ending = self._ended.get(request)
        return ending if ending is not None and self._now() - ending.at_s > SURE_S else None

    def shaken(self, at_s: float) -> None:
        """The broker broke then, the last time; may be said again of the same break."""
        if at_s > self._last_break_s:
            self._last_break_s = at_s
            self._first_break_s = at_s if self._first_break_s is None else self._first_break_s

    def doubtful(self) -> dict[RequestId, Ticket] | None:
        """Those that the broker may have forgotten to be over, and where their jobs lay.

        None where it has not broken since it was asked last, and until it is calm again.
        """
        if self._first_break_s is None or self._now() - self._last_break_s < CALM_S:
            return None
        since_s = self._first_break_s - DOUBT_S
        return {
            request: ending.ticket
            for request, ending in self._ended.items()
            if ending.ticket is not None and since_s < ending.at_s < self._now() - SURE_S
        }

    def settled(self) -> None:
        """Those that were doubtful are known: wait for the next break."""
        self._first_break_s = None

    @property
    def _oldest_s(self) -> float:
        return next(iter(self._ended.values())).at_s
