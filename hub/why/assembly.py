"""Puts together what explanations are drawn from."""

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.records.limit_looks import LimitLooks
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.streams.queues import Queues
from hub.access.credential_table import CredentialTable
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings
from hub.why.explainer import Evidence, Explainer


def make_explainer(
    broker: Broker, view: RegistryView, credentials: CredentialTable, clock: BrokerClock, settings: HubSettings
) -> Explainer:
    """The explainer of a hub."""
    evidence = Evidence(
        view=view,
        registry=Registry(broker),
        queues=Queues(broker),
        book=RequestBook(broker),
        limits=LimitLooks(broker),
        credentials=credentials,
        clock=clock,
    )
    return Explainer(evidence, settings)
