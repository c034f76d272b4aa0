"""Tells the registry that this hub is there, and keeps its doorbell, its clock and the list of what it looks after."""

import asyncio

import structlog

from common import __version__
from common.errors import BrokerError
from common.records.grid import HubRecord
from common.records.registry import Registry
from common.settings import SharedSettings
from common.streams.replies import Doorbell
from hub.grid.steadiness import Steadiness
from hub.relay.reader import DOORBELL_TTL_MS
from hub.requests.backstage import Backstage
from hub.requests.dispatcher import Dispatcher

log = structlog.get_logger()

BEATS_PER_HEARTBEAT = 2


def hub_lease_ms(settings: SharedSettings) -> int:
    """How long a hub's entry lives after its last beat, ms: half as long as a node's.

    What a killed hub's clients asked for runs on until the entry is gone, on machines that others wait for. Hubs are
    few, so they can beat twice as often, and their entries live three beats like those of nodes.
    """
    return settings.lease_ms // BEATS_PER_HEARTBEAT


class Presence:
    """Writes the hub's hash twice in each heartbeat."""

    def __init__(
        self, stage: Backstage, registry: Registry, doorbell: Doorbell, dispatcher: Dispatcher, steadiness: Steadiness
    ) -> None:
        self._hub = stage.hub
        self._settings = stage.settings
        self._clock = stage.clock
        self._registry = registry
        self._doorbell = doorbell
        self._requests = stage.requests
        self._dispatcher = dispatcher
        self._steadiness = steadiness
        self._started_at = 0

    async def run(self) -> None:
        """Renew until cancelled."""
        is_away = False
        while True:
            try:
                await self.beat()
                is_away = False
            except BrokerError as exc:
                if not is_away:
                    log.warning("broker_unavailable", doing="heartbeat", error=str(exc))
                is_away = True
            await asyncio.sleep(self._settings.heartbeat_s / BEATS_PER_HEARTBEAT)

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
            url=self._settings.url_for_clients,
        )
        if not await self._registry.write_hub(record, hub_lease_ms(self._settings)):
            self._steadiness.shake()  # what befell this hub's entry may have befallen that of others
        await self._requests.keep_open()

    async def leave(self) -> None:
        """Take the entry out at once; if that fails it ends by itself. What is still open another hub takes over."""
        try:
            await self._registry.remove_hub(self._hub)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="leave", error=str(exc))
