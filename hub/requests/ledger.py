"""Keeps the requests' hashes and the keys' usage true: gathers what changed, writes it off the requests' own path."""

import asyncio

import structlog

from common.errors import BrokerError
from common.records.usage import DayOfKey, ModelUsage, UsageBooks
from common.streams.jobs import LaneName
from common.streams.requests import Requests
from common.tasks import backoff_s
from common.types import HubId, KeyId, ModelId, RequestId
from common.wire import Usage

log = structlog.get_logger()

GATHER_S = 0.01
MAX_BEHIND = 10_000

Portion = dict[DayOfKey, dict[ModelId, ModelUsage]]


class Ledger:
    """Changes of requests, and what they used, on their way to the broker."""

    def __init__(self, hub: HubId, requests: Requests, books: UsageBooks) -> None:
        self._hub = hub
        self._requests = requests
        self._books = books
        self._changes: dict[RequestId, dict[str, str | int | float]] = {}
        self._claimed: dict[RequestId, LaneName] = {}
        self._held: set[RequestId] = set()
        self._over: set[RequestId] = set()
        self._used: Portion = {}
        self._sent: Portion = {}
        """A portion of usage whose arrival is not known: it is sent again as it is, under the same number."""
        self._portions = 0
        self._rung = asyncio.Event()

    def note(self, request: RequestId, **facts: str | float) -> None:
        """Write these fields soon; later ones win."""
        if len(self._changes) < MAX_BEHIND:  # the broker is away: this is for people to look at, not for keeps
            self._changes.setdefault(request, {}).update(facts)
            self._rung.set()

    def count(self, key: KeyId, day: str, model: ModelId, usage: Usage | None) -> None:
        """Add a request that has ended to what its key used that day. This is for keeps: it is never dropped."""
        self._used.setdefault((key, day), {}).setdefault(model, ModelUsage()).add(usage)
        self._rung.set()

    def hold(self, request: RequestId) -> None:
        """The broker may have lost that this hub looks after it."""
        self._held.add(request)
        self._rung.set()

    def over(self, request: RequestId) -> None:
        """Nobody need look after it any more: nothing of it is left in the broker but what ends by itself."""
        self._held.discard(request)
        self._over.add(request)
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
            unbilled = len(self._used) + len(self._sent)
            log.warning("ledger_unwritten", requests=len(self._changes), days_of_keys=unbilled, error=str(exc))

    async def flush(self) -> None:
        """Write now; what could not be written is kept."""
        self._rung.clear()
        try:
            await self._write_changes()
            await self._write_usage()
        except BrokerError:
            self._rung.set()
            raise

    async def _write_changes(self) -> None:
        changes, self._changes = self._changes, {}
        claimed, self._claimed = self._claimed, {}
        held, self._held = self._held, set()
        over, self._over = self._over, set()
        if not (changes or claimed or held or over):
            return
        try:
            await self._requests.update(changes, claimed, held=[*held], over=[*over])
        except BrokerError:
            self._over |= over
            self._held |= held - self._over
            for request, facts in changes.items():
                self._changes[request] = facts | self._changes.get(request, {})
            self._claimed = claimed | self._claimed
            raise

    async def _write_usage(self) -> None:
        while self._sent or self._used:
            if not self._sent:
                self._sent, self._used = self._used, {}
                self._portions += 1
            await self._books.add(self._hub, self._portions, self._sent)
            self._sent = {}
