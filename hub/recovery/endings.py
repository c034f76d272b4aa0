"""Requests that this hub has ended a short while ago: a broker's server that takes over may not have heard of it.

Sentinels and clusters promote a replica that lacks the last writes. To it a request that ended just then runs on: its
job is claimed, its reply lacks the end, and this hub's list names it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from common.types import RequestId

LIMIT_S = 300.0
"""How long an ending is remembered: a broker that was away for longer has timed the rest out."""
SURE_S = 5.0
"""So long after it ended the broker has heard of it, unless that was away."""
MOST = 20_000

Final = Mapping[str, str | int | float]
"""The fields of its hash that tell how it ended."""


class Endings:
    """How requests ended, the latest; `now` gives seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ended: OrderedDict[RequestId, tuple[float, Final]] = OrderedDict()

    def note(self, request: RequestId, final: Final) -> None:
        """A request is over, and all was done to take it out of the broker."""
        self._ended[request] = self._now(), final
        while len(self._ended) > MOST or self._oldest_s < self._now() - LIMIT_S:
            self._ended.popitem(last=False)

    def find(self, request: RequestId) -> Final | None:
        """How it ended, if that is so long ago that the broker must know."""
        ended_s, final = self._ended.get(request, (self._now(), None))
        return final if self._now() - ended_s > SURE_S else None

    @property
    def _oldest_s(self) -> float:
        return next(iter(self._ended.values()))[0]
