"""Tells the registry that this node is there and how it stands. Its entry is the lease of every job it runs."""

import asyncio
from collections.abc import Callable

import structlog

from common.broker.clock import BrokerClock
from common.errors import BrokerError
from common.tasks import wait_or_stop
from provider.errors import NameTaken
from provider.membership.access import Access
from provider.presence.entry import NodeEntry
from provider.presence.own_record import OwnRecord
from provider.settings import ProviderSettings
from provider.standing import Standing

log = structlog.get_logger()

MIN_GAP_S = 0.05
"""Least time between two writes of the entry, however fast things change."""
SYNC_S = 10.0
"""How old the estimate of the broker's time may be."""
TELL_AGAIN_S = 60.0
"""From one word about a broker that is away to the next."""


class Presence:
    """Renews the node's entry at each heartbeat, and at once when something changed.

    `on_registered` is called once, after the first time.
    """

    def __init__(
        self,
        settings: ProviderSettings,
        clock: BrokerClock,
        entry: NodeEntry,
        record: OwnRecord,
        access: Access,
        standing: Standing,
        on_registered: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._entry = entry
        self._record = record
        self._access = access
        self._standing = standing
        self._on_registered = on_registered
        self._is_registered = False

    async def take_name(self, stop: asyncio.Event) -> bool:
        """Wait until no other process holds this node's name, at most a lease and a heartbeat; False if told to stop.

        Raises:
            NameTaken: someone else keeps renewing it.
            BrokerError: the broker does not answer.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._settings.lease_ms / 1000 + self._settings.heartbeat_s
        while (other := await self._entry.holder()) is not None:
            if loop.time() > give_up_at:
                raise NameTaken(
                    f"another provider named {other.node!r} is running on {other.hostname}; choose a --name"
                )
            if await wait_or_stop(stop, self._settings.heartbeat_s / 4):
                return False
        return True

    async def run(self) -> None:
        """Renew until cancelled; trouble with the broker is told, now and then, and tried again soon."""
        loop = asyncio.get_running_loop()
        away_since: float | None = None
        tell_at = 0.0
        while True:
            self._standing.changed.clear()
            try:
                await self._beat()
            except BrokerError as exc:
                now = loop.time()
                if away_since is None:
                    away_since, tell_at = now, now
                self._standing.in_grid = False
                if now >= tell_at:  # a broker may be away for days
                    tell_at = now + TELL_AGAIN_S
                    away_s = round(now - away_since)
                    log.warning("broker_unavailable", doing="heartbeat", error=str(exc), away_s=away_s)
                await self._access.mend(exc, self._settings.heartbeat_s / 4)
                continue
            if away_since is not None:
                log.info("broker_back", away_s=round(loop.time() - away_since, 1))
                away_since = None
            earliest = loop.time() + MIN_GAP_S
            await wait_or_stop(self._standing.changed, self._settings.heartbeat_s)
            await asyncio.sleep(max(0.0, earliest - loop.time()))

    async def leave(self) -> None:
        """Take the entry out at once; if that fails it ends by itself."""
        try:
            await self._entry.remove(index=not self._access.is_member)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="leave", error=str(exc))

    async def _beat(self) -> None:
        await self._clock.keep(SYNC_S)
        await self._access.refresh()
        await self._entry.renew(self._record.at(self._clock.now_ms()), index=not self._access.is_member)
        self._standing.in_grid = True
        if not self._is_registered:
            self._is_registered = True
            self._on_registered()
