"""Tells the registry that this hub is there, and keeps its doorbell and its clock."""

import asyncio

import structlog

from common import __version__
from common.clock import BrokerClock
from common.errors import BrokerError
from common.registry import HubRecord, Registry
from common.streams.replies import Doorbell
from common.types import HubId
from hub.requests.dispatcher import Dispatcher
from hub.settings import HubSettings

log = structlog.get_logger()

DOORBELL_TTL_MS = 60_000


class Presence:
    """Writes the hub's hash at each heartbeat."""

    def __init__(
        self,
        hub: HubId,
        settings: HubSettings,
        clock: BrokerClock,
        registry: Registry,
        doorbell: Doorbell,
        dispatcher: Dispatcher,
    ) -> None:
        self._hub = hub
        self._settings = settings
        self._clock = clock
        self._registry = registry
        self._doorbell = doorbell
        self._dispatcher = dispatcher
        self._started_at = 0

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            try:
                await self.beat()
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="heartbeat", error=str(exc))
            await asyncio.sleep(self._settings.heartbeat_s)

    async def beat(self) -> None:
        """Renew once; BrokerError if that fails."""
        await self._clock.sync()
        self._started_at = self._started_at or self._clock.now_ms()
        await self._doorbell.keep(DOORBELL_TTL_MS)
        record = HubRecord(
            hub=self._hub,
            address=f"{self._settings.host}:{self._settings.port}",
            version=__version__,
            open_requests=self._dispatcher.open_count,
            started_at=self._started_at,
            heartbeat_at=self._clock.now_ms(),
        )
        await self._registry.write_hub(record, self._settings.lease_ms)

    async def leave(self) -> None:
        """Take the entry out at once; if that fails it ends by itself."""
        try:
            await self._registry.remove_hub(self._hub)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="leave", error=str(exc))
