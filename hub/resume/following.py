"""Reading along: the entries of one reply as they come, at the hub that looks after the request or at any other."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from common.records.limits import Quota
from common.succession import LoggedEntry
from common.types import ModelId, NodeId, RequestId
from hub.errors import RequestFailed
from hub.requests.request import OpenRequest
from hub.resume.guard import Guard

TICK_S = 0.5
"""How often those who read along look at their own clocks while nothing comes."""
MOST_AT_ONCE = 64
"""Entries: one who comes late is told what there is in parts, as its connection takes them."""
SHORT_S = 0.02
"""How long one who has read everything waits for a guard that is about to end."""


class Following(Protocol):
    """One reader of one request."""

    @property
    def request(self) -> RequestId:
        """Which one."""
        ...

    @property
    def model(self) -> ModelId:
        """Its model."""
        ...

    @property
    def is_stream(self) -> bool:
        """Whether its answer is streamed."""
        ...

    @property
    def queued_ms(self) -> int | None:
        """From admission to the first claim, where that is known here."""
        ...

    @property
    def quota(self) -> Quota | None:
        """What the client key of the request has left, where that is known here."""
        ...

    def standing(self, node: NodeId | None) -> str:
        """Where the request stands, in words; `node` has it as far as its reply says."""
        ...

    async def advance(self) -> Sequence[LoggedEntry]:
        """The next entries, or none after a moment in which nothing came.

        Raises:
            RequestFailed: nothing more will come, and the reply does not say why.
        """
        ...


class LocalFollowing:
    """Reads along with a guard of this hub: from memory."""

    def __init__(self, guard: Guard) -> None:
        job = guard.request.job
        self.request, self.model, self.is_stream = job.id, job.model, job.stream
        self._guard = guard
        self._log = guard.request.log
        self._read = 0

    @property
    def queued_ms(self) -> int | None:
        """From admission to the first claim."""
        return self._guard.request.queued_ms

    @property
    def quota(self) -> Quota | None:
        """What the client key of the request has left."""
        return self._guard.request.place.quota

    def standing(self, node: NodeId | None) -> str:
        """Where the request stands, in words."""
        return standing(self._guard.request) if node is None else f"running on {node}"

    async def advance(self) -> Sequence[LoggedEntry]:
        """The next entries; raises what the guard ended with once all are read."""
        entries = self._log.entries[self._read : self._read + MOST_AT_ONCE]
        if not entries and not self._guard.is_over:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._log.wait_beyond(self._read)
            except TimeoutError:
                return ()
            entries = self._log.entries[self._read : self._read + MOST_AT_ONCE]
        if not entries and self._guard.is_over:  # and so its Idempotency-Key is free where it failed
            raise self._guard.ended_by or RequestFailed("The hub lost sight of this request.")
        if not entries:  # its guard sees to the last things
            await asyncio.sleep(SHORT_S)
        self._read += len(entries)
        return entries


def standing(request: OpenRequest) -> str:
    """Where a request of this hub stands, in words."""
    if not request.is_waiting:
        return f"running on {request.node}"
    place = request.place
    about = "" if place.wait_s is None else f", about {max(1, round(place.wait_s))} s"
    return f"queued, {place.ahead} ahead{about}"
