"""A reaper, and the hub around it as a test sets it."""

from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.broker.reconnections import CountedReconnections
from common.records.registry import Registry
from common.streams.changes import Changes
from common.streams.jobs import JobLanes
from common.streams.requests import Requests
from common.telemetry.port import NO_TRACING
from common.types import HubId, RequestId
from hub.grid.registry_view import RegistryView
from hub.grid.steadiness import Steadiness
from hub.recovery.assembly import make_reaper
from hub.recovery.endings import Endings
from hub.recovery.facts import Facts
from hub.recovery.reaper import Reaper
from hub.requests.assembly import make_backstage
from hub.requests.backstage import Backstage
from hub.settings import HubSettings
from tests.contract.story import TTLS

ME = HubId("hub-2")
SETTINGS = HubSettings()


def backstage(broker: Broker, hub: HubId, **parts: Any) -> Backstage:
    """What a hub's parts work with; `parts`: those that are not as a hub makes them."""
    clock = BrokerClock(broker)
    view = RegistryView(Registry(broker), Changes(broker), JobLanes(broker), clock)
    made = make_backstage(hub, SETTINGS, broker, clock, view, CollectorRegistry(), NO_TRACING)
    return replace(made, **parts)


class Around:
    """A hub around a reaper: its clock, which requests it holds, whether it is stopping."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.held: set[str] = set()
        self.is_draining = False
        self.open_count = 0
        self.reconnections = CountedReconnections()
        self.steadiness = Steadiness(self.reconnections, lambda: self.now_s)
        self.endings = Endings(lambda: self.now_s)

    def find(self, request: RequestId) -> object | None:
        return request if request in self.held else None

    async def adopt(self, request: RequestId, _facts: Facts) -> bool:
        """None of these stories has a request that can be resumed."""
        raise AssertionError(f"{request} is to be adopted")

    def reaper(self, broker: Broker) -> Reaper:
        stage = backstage(broker, ME, requests=Requests(broker, TTLS, ME), endings=self.endings)
        return make_reaper(broker, stage, self, self.steadiness, self.adopt)
