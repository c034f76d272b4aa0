"""The Idempotency-Keys that stand for this hub's requests, from their admission until a while after their end."""

import asyncio
from collections.abc import Sequence

import structlog

from common.broker.reconnections import Reconnections
from common.errors import BrokerError
from common.records.idempotency import Held, IdempotencyKeys
from hub.settings import HubSettings

log = structlog.get_logger()

LIMIT_S = 2.0
"""How long the end of a request waits for the broker to settle its key."""
RENEWALS = 4
"""How often a key is renewed within the time that it would stand for its request without that."""


class HeldKeys:
    """Renews and settles keys.

    Args:
        reconnections: of the broker's connections; when one was made again, records may have been lost.
    """

    def __init__(self, records: IdempotencyKeys, reconnections: Reconnections, settings: HubSettings) -> None:
        self._records = records
        self._reconnections = reconnections
        self._seen_reconnections = reconnections.count
        self._renew_at = 0.0
        self.keep_ms = int(settings.answer_keep_s * 1000)
        """How long a key stands for a request after its end, or without being renewed."""

    async def renew(self, held: Sequence[Held]) -> None:
        """Have these stand for requests that run, if it is time to say so. Never raises."""
        loop, seen = asyncio.get_running_loop(), self._reconnections.count
        if loop.time() < self._renew_at and seen == self._seen_reconnections:
            return
        try:
            await self._records.keep(held, self.keep_ms)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="idempotency", error=str(exc))
        else:
            self._seen_reconnections = seen
            self._renew_at = loop.time() + self.keep_ms / 1000 / RENEWALS

    async def settle(self, held: Held, *, has_answer: bool) -> None:
        """A request has ended: its key is answered by it for a while, or, without an answer, by a new one.

        Never raises: should the broker be away, whoever comes with the key sees that the request failed.
        """
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._records.keep([held], self.keep_ms if has_answer else 0)
        except (BrokerError, TimeoutError) as exc:
            log.warning("broker_unavailable", doing="idempotency", error=str(exc))
