"""Keeps the requests' hashes true: gathers what changed and writes it in one pipeline, off the requests' own path."""

import asyncio

import structlog

from common.errors import BrokerError
from common.streams.jobs import LaneName
from common.streams.requests import Requests
from common.tasks import backoff_s
from common.types import RequestId

log = structlog.get_logger()

GATHER_S = 0.01
MAX_BEHIND = 10_000


class Ledger:
    """Changes of requests on their way to the broker."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._changes: dict[RequestId, dict[str, str | int | float]] = {}
        self._claimed: dict[RequestId, LaneName] = {}
        self._rung = asyncio.Event()

    def note(self, request: RequestId, **facts: str | float) -> None:
        """Write these fields soon; later ones win."""
        if len(self._changes) < MAX_BEHIND:  # the broker is away: this is for people to look at, not for keeps
            self._changes.setdefault(request, {}).update(facts)
            self._rung.set()

    def leave_queue(self, request: RequestId, lane: LaneName) -> None:
        """Take a request out of its waiting index soon."""
        self._claimed[request] = lane
        self._rung.set()

    def join_queue(self, request: RequestId) -> None:
        """It waits again: what was to take it out of the queue is dealt with."""
        self._claimed.pop(request, None)

    async def run(self) -> None:
        """Write until cancelled."""
        waits = backoff_s(0.1, 5)
        while True:
            await self._rung.wait()
            await asyncio.sleep(GATHER_S)
            try:
                await self.flush()
                waits = backoff_s(0.1, 5)
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="ledger", error=str(exc))
                await asyncio.sleep(next(waits))

    async def finish(self, limit_s: float) -> None:
        """Write what is left, within a limit."""
        try:
            async with asyncio.timeout(limit_s):
                await self.flush()
        except (BrokerError, TimeoutError) as exc:
            log.warning("ledger_unwritten", requests=len(self._changes), error=str(exc))

    async def flush(self) -> None:
        """Write now; what could not be written is kept."""
        self._rung.clear()
        changes, self._changes = self._changes, {}
        claimed, self._claimed = self._claimed, {}
        if not changes and not claimed:
            return
        try:
            await self._requests.update(changes, claimed)
        except BrokerError:
            for request, facts in changes.items():
                self._changes[request] = facts | self._changes.get(request, {})
            self._claimed = claimed | self._claimed
            self._rung.set()
            raise
