"""Puts together what every open request of a hub works with."""

import structlog
from prometheus_client import CollectorRegistry

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.records.history import History
from common.records.limits import Limits
from common.records.served import ServedBook
from common.records.usage import UsageBooks
from common.signing import SigningKeys
from common.streams.dead import DeadLetters
from common.streams.jobs import JobLanes
from common.streams.near_lanes import NearLanes
from common.streams.replies import Doorbell, ReplyStreams
from common.streams.requests import Requests, RequestTtls
from common.telemetry.port import Tracing
from common.types import HubId
from hub.affinity.affinity import Affinity
from hub.affinity.memory import Memory
from hub.figures.request_counters import RequestCounters
from hub.figures.tally import Tally
from hub.grid.registry_view import RegistryView
from hub.recovery.endings import Endings
from hub.relay.reader import ReplyReader
from hub.requests.backstage import Backstage
from hub.requests.burial import DeadJobs
from hub.requests.ledger import Ledger
from hub.requests.limits import limit_settings
from hub.requests.turns import Turns
from hub.settings import HubSettings

log = structlog.get_logger()


def make_backstage(
    hub: HubId,
    settings: HubSettings,
    broker: Broker,
    clock: BrokerClock,
    view: RegistryView,
    counters: CollectorRegistry,
    tracing: Tracing,
) -> Backstage:
    """All parts, none of which works yet. `counters`: where requests are counted."""
    signing = SigningKeys.parse(settings.signing_key)
    if not signing:
        log.warning("jobs_unsigned", hint="set GHUB_SIGNING_KEY on hubs and providers to refuse forged jobs")
    reply_ttl_ms = int(settings.reply_ttl_s * 1000)
    requests = Requests(broker, RequestTtls(int(settings.request_ttl_s * 1000), reply_ttl_ms), hub)
    tally = Tally(RequestCounters(counters), History(broker), clock)
    return Backstage(
        hub=hub,
        settings=settings,
        clock=clock,
        signing=signing,
        lanes=JobLanes(broker),
        requests=requests,
        view=view,
        reader=ReplyReader(
            Doorbell(broker, hub),
            ReplyStreams(broker),
            reply_ttl_ms=reply_ttl_ms,
            inbox_bytes=settings.client_buffer_bytes,
            reconnections=broker.reconnections,
        ),
        ledger=Ledger(hub, requests, UsageBooks(broker)),
        turns=Turns(Limits(broker, hub, limit_settings(settings)), settings),
        dead=DeadJobs(DeadLetters(broker), settings),
        tally=tally,
        affinity=Affinity(view, Memory(ServedBook(broker), settings.affinity_ttl_s), signing, tally, settings),
        near_lanes=NearLanes(broker),
        endings=Endings(),
        tracing=tracing,
    )
