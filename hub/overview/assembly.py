"""Puts together what an overview is taken from."""

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.records.history import History
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.streams.dead import DeadLetters
from common.streams.jobs import JobLanes
from common.streams.queues import Queues
from common.types import HubId
from hub.grid.registry_view import RegistryView
from hub.overview.snapshot import Overview, Sources
from hub.settings import HubSettings


def make_overview(
    hub: HubId, broker: Broker, view: RegistryView, clock: BrokerClock, settings: HubSettings
) -> Overview:
    """The overview of a hub; nothing is asked of the broker before somebody looks."""
    sources = Sources(
        view=view,
        lanes=JobLanes(broker),
        queues=Queues(broker),
        registry=Registry(broker),
        book=RequestBook(broker),
        dead=DeadLetters(broker),
        history=History(broker),
        clock=clock,
    )
    return Overview(hub, sources, settings)
