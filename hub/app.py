"""The composition root of a hub: everything long-lived is made here, room by room, and handed over.

What a folder needs of its own is put together in its `assembly`.
"""

from uuid import uuid4

from prometheus_client import CollectorRegistry, disable_created_metrics

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.broker.watch import BrokerWatch
from common.records.registry import Registry
from common.streams.changes import Changes
from common.streams.jobs import JobLanes
from common.streams.queues import Queues
from common.streams.replies import Doorbell
from common.tasks import Crew, wait_or_stop
from common.telemetry.port import NO_TRACING, Tracing
from common.types import HubId
from hub.access.assembly import make_access
from hub.api.assembly import Rooms, make_routes
from hub.grid.model_names import ModelNames
from hub.grid.presence import Presence
from hub.grid.registry_view import RegistryView
from hub.grid.steadiness import Steadiness
from hub.overview.assembly import make_overview
from hub.overview.feed import OverviewFeed
from hub.recovery.assembly import make_reaper
from hub.requests.assembly import make_backstage
from hub.requests.dispatcher import Dispatcher
from hub.requests.rounds import Rounds
from hub.resume.assembly import make_resumption
from hub.settings import HubSettings


def new_id(name: str) -> HubId:
    """What a hub of this name is known by, from this start on."""
    return HubId(f"{name}-{uuid4().hex[:8]}")


class Hub:
    """A hub process without its HTTP server."""

    def __init__(
        self, settings: HubSettings, broker: Broker, tracing: Tracing = NO_TRACING, hub: HubId | None = None
    ) -> None:
        self.id = hub or new_id(settings.name)
        self.crew = Crew()
        clock, steadiness = BrokerClock(broker), Steadiness(broker.reconnections)
        self._broker_watch = BrokerWatch(broker)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for each series that Prometheus has no use for
        counters = CollectorRegistry(auto_describe=False)

        access = make_access(broker, clock, settings)
        self.members, self._credentials = access.members, access.credentials

        self._view = _view(broker, clock, settings)
        self._stage = make_backstage(self.id, settings, broker, clock, self._view, counters, tracing)
        self.dispatcher = Dispatcher(broker.keys, self._stage)
        self._rounds = Rounds(self.dispatcher, Queues(broker), self._stage, lambda: self._credentials.keys)
        self._resumption = make_resumption(broker, self.dispatcher, self._stage, access.gatekeeper)
        self._reaper = make_reaper(broker, self._stage, self.dispatcher, steadiness, self._resumption.guards.adopt)
        doorbell = Doorbell(broker, self.id)
        self._presence = Presence(self._stage, Registry(broker), doorbell, self.dispatcher, steadiness)

        overview = make_overview(self.id, broker, self._view, clock, settings)
        self.feed = OverviewFeed(overview, settings.max_watchers)
        self.app, self.front = make_routes(
            Rooms(broker, access, self._stage, self.dispatcher, self._resumption, overview, self.feed, counters)
        )

    def start(self) -> None:
        """Begin the background tasks."""
        stage, rounds = self._stage, self._rounds
        self.crew.start("reader", stage.reader.run())
        self.crew.start("keeper", stage.reader.keep())
        self.crew.start("ticker", stage.reader.tick())
        self.crew.start("ledger", stage.ledger.run())
        self.crew.start("registry", self._view.run())
        self.crew.start("credentials", self._credentials.run())
        self.crew.start("places", rounds.follow_places())
        self.crew.start("slow clients", rounds.follow_slow_clients())
        self.crew.start("keys", rounds.follow_keys())
        self.crew.start("turns", stage.turns.run())
        self.crew.start("turn keeper", stage.turns.keep())
        self.crew.start("presence", self._presence.run())
        self.crew.start("broker watch", self._broker_watch.run())
        self.crew.start("tally", stage.tally.run())
        self.crew.start("affinity", stage.affinity.run())
        self.crew.start("overview", self.feed.run())
        self._resumption.start(self.crew)
        self.crew.start("reaper", self._reaper.run())

    async def look(self, limit_s: float) -> None:
        """Wait until it is known what there is in the grid, or that the broker does not answer; at most so long."""
        await wait_or_stop(self._view.has_looked, limit_s)

    async def stop(self) -> None:
        """End the background tasks after a drain, the last words first."""
        await self.dispatcher.finish_closing(2)
        await self._stage.turns.finish(2)
        await self._stage.ledger.finish(2)
        await self._stage.tally.finish(2)
        await self.crew.stop()
        await self._resumption.stop()
        await self._presence.leave()


def _view(broker: Broker, clock: BrokerClock, settings: HubSettings) -> RegistryView:
    return RegistryView(
        Registry(broker),
        Changes(broker),
        JobLanes(broker),
        clock,
        ModelNames(settings.aliases),
        heartbeat_s=settings.heartbeat_s,
        reconnections=broker.reconnections,
    )
