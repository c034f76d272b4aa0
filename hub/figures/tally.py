"""Counts every request at its end, whatever that was: for Prometheus at this hub, and for the grid's last hour."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import structlog

from common.broker.clock import BrokerClock
from common.errors import BrokerError
from common.records.history import History, first_token_field, minute_of
from common.types import RequestStatus
from common.wire import Usage
from hub.errors import RequestFailed
from hub.figures.request_counters import NO_MODEL, RequestCounters

log = structlog.get_logger()

WRITE_S = 2.0
"""How far the grid's last hour may be behind."""
MOST_MINUTES = 10
"""So many are kept for a broker that is away; older ones are let go."""
REFUSED = "refused"
_FAILED = (RequestStatus.FAILED, RequestStatus.EXPIRED)


@dataclass(frozen=True, slots=True)
class Ending:
    """A request that was admitted and has ended. Times in seconds since its admission."""

    endpoint: str
    model: str
    status: RequestStatus
    error: RequestFailed | None
    usage: Usage | None
    queue_s: float | None
    first_token_s: float | None
    whole_s: float


class Tally:
    """What has ended at this hub."""

    def __init__(self, counters: RequestCounters, history: History, clock: BrokerClock) -> None:
        self._counters = counters
        self._history = history
        self._clock = clock
        self._minutes: dict[int, Counter[str]] = {}

    def refused(self, endpoint: str, model: str | None, error: RequestFailed) -> None:
        """A request was not admitted. `model`: None where it was not known well enough to be a label."""
        self._counters.ended(endpoint, model or NO_MODEL, REFUSED, error.code)
        self._now().update(requests=1, failed=1)

    def requeued(self, error: RequestFailed) -> None:
        """An attempt came to nothing, and another one is made."""
        self._counters.requeued(error.code)
        self._now()["retried"] += 1

    def near(self, kind: str, outcome: str) -> None:
        """A job was meant for a node that would do it sooner than others."""
        self._counters.near(kind, outcome)

    def ended(self, ending: Ending) -> None:
        """An admitted request has ended."""
        code = ending.error.code if ending.error is not None else ""
        is_done = ending.status is RequestStatus.DONE
        self._counters.ended(ending.endpoint, ending.model, ending.status.value, code)
        self._counters.took(
            ending.model,
            queue_s=ending.queue_s,
            first_token_s=ending.first_token_s,
            whole_s=ending.whole_s if is_done else None,
        )
        sums = self._now()
        sums["requests"] += 1
        if ending.status in _FAILED:
            sums["failed"] += 1
        if ending.first_token_s is not None:
            sums[first_token_field(ending.first_token_s * 1000)] += 1
        if (usage := ending.usage) is not None:
            prompt_tokens, completion_tokens = usage.prompt_tokens or 0, usage.completion_tokens or 0
            self._counters.used(ending.model, prompt_tokens, completion_tokens)
            sums["prompt_tokens"] += prompt_tokens
            sums["completion_tokens"] += completion_tokens

    async def run(self) -> None:
        """Add to the grid's last hour until cancelled."""
        while True:
            await asyncio.sleep(WRITE_S)
            try:
                await self.flush()
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="history", error=str(exc))

    async def finish(self, limit_s: float) -> None:
        """Add what is left, within a limit."""
        try:
            async with asyncio.timeout(limit_s):
                await self.flush()
        except (BrokerError, TimeoutError) as exc:
            log.warning("broker_unavailable", doing="history", error=str(exc))

    async def flush(self) -> None:
        """Add what was counted since; BrokerError if that fails, and it is kept for a while."""
        minutes, self._minutes = self._minutes, {}
        if not minutes:
            return
        try:
            await self._history.add(minutes)
        except BrokerError:
            for began_at in [*minutes][-MOST_MINUTES:]:
                self._minutes.setdefault(began_at, Counter()).update(minutes[began_at])
            raise

    def _now(self) -> "Counter[str]":
        return self._minutes.setdefault(minute_of(self._clock.now_ms()), Counter())
