"""The composition root of a hub: everything long-lived is made here and handed over."""

from uuid import uuid4

import structlog
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry, disable_created_metrics

from common import __version__
from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.broker.users import BrokerUsers
from common.broker.watch import BrokerWatch
from common.records.credentials import Credentials
from common.records.history import History
from common.records.limits import Limits
from common.records.memberships import Memberships
from common.records.nonces import Nonces
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.records.served import ServedBook
from common.records.usage import UsageBooks
from common.signing import SigningKeys
from common.streams.changes import Changes
from common.streams.control import ControlStreams
from common.streams.dead import DeadLetters
from common.streams.jobs import JobLanes
from common.streams.last_word import LastWords
from common.streams.near_lanes import NearLanes
from common.streams.queues import Queues
from common.streams.replies import Doorbell, ReplyStreams
from common.streams.requests import Requests, RequestTtls
from common.tasks import Crew, wait_or_stop
from common.telemetry.port import NO_TRACING, Tracing
from common.types import HubId
from hub.access.broker_access import BrokerAccess
from hub.access.credential_table import CredentialTable
from hub.access.gatekeeper import Gatekeeper
from hub.access.members import MemberBooks, Members
from hub.access.provider_tokens import parse_tokens
from hub.affinity.affinity import Affinity
from hub.affinity.memory import Memory
from hub.api.admin.dead import dead_router
from hub.api.admin.grid import grid_router
from hub.api.admin.keys import keys_router
from hub.api.admin.nodes import nodes_router
from hub.api.admin.overview import overview_router
from hub.api.admin.requests import requests_router
from hub.api.admin.tokens import tokens_router
from hub.api.admin.usage import usage_router
from hub.api.admin.why import why_router
from hub.api.anthropic.messages import messages_router
from hub.api.dashboard import dashboard_router
from hub.api.direct import direct_router
from hub.api.errors import install_error_handlers
from hub.api.front import Front
from hub.api.intake import Intake
from hub.api.ollama.catalog import Catalog
from hub.api.ollama.inference import ollama_inference_router
from hub.api.ollama.models import ollama_models_router
from hub.api.openai.inference import inference_router
from hub.api.openai.models import models_router
from hub.api.operations import operations_router
from hub.api.provider.health import health_router
from hub.api.provider.hmac import hmac_router
from hub.api.provider.register import register_router
from hub.api.resumable_intake import ResumableIntake
from hub.api.resumption import resumption_router
from hub.direct.calls import DirectCalls
from hub.direct.tickets import DirectTickets
from hub.figures.exposition import Exposition
from hub.figures.request_counters import RequestCounters
from hub.figures.tally import Tally
from hub.grid.model_names import ModelNames
from hub.grid.picture import GridPicture
from hub.grid.presence import Presence
from hub.grid.registry_view import RegistryView
from hub.grid.reports import Reports
from hub.grid.steadiness import Steadiness
from hub.office.dead_jobs import DeadDesk
from hub.office.keys import KeyOffice
from hub.office.nodes import NodeDesk
from hub.office.requests import RequestDesk
from hub.office.tokens import TokenOffice
from hub.overview.assembly import make_overview
from hub.overview.feed import OverviewFeed
from hub.recovery.assembly import make_reaper
from hub.recovery.endings import Endings
from hub.relay.reader import ReplyReader
from hub.requests.backstage import Backstage
from hub.requests.burial import DeadJobs
from hub.requests.dispatcher import Dispatcher
from hub.requests.ledger import Ledger
from hub.requests.limits import limit_settings
from hub.requests.rounds import Rounds
from hub.requests.turns import Turns
from hub.resume.assembly import make_resumption
from hub.settings import HubSettings
from hub.why.assembly import make_explainer

log = structlog.get_logger()


def new_id(name: str) -> HubId:
    """What a hub of this name is known by, from this start on."""
    return HubId(f"{name}-{uuid4().hex[:8]}")


class Hub:
    """A hub process without its HTTP server."""

    def __init__(
        self, settings: HubSettings, broker: Broker, tracing: Tracing = NO_TRACING, hub: HubId | None = None
    ) -> None:
        self.id = hub or new_id(settings.name)
        signing = SigningKeys.parse(settings.signing_key)
        if not signing:
            log.warning("jobs_unsigned", hint="set GHUB_SIGNING_KEY on hubs and providers to refuse forged jobs")
        replies, lanes, registry = ReplyStreams(broker), JobLanes(broker), Registry(broker)
        doorbell = Doorbell(broker, self.id)
        reply_ttl_ms = int(settings.reply_ttl_s * 1000)
        ttls = RequestTtls(int(settings.request_ttl_s * 1000), reply_ttl_ms)
        requests = Requests(broker, ttls, self.id)
        queues = Queues(broker)
        clock = BrokerClock(broker)
        self._names = ModelNames(settings.aliases)
        self._view = RegistryView(
            registry,
            Changes(broker),
            lanes,
            clock,
            self._names,
            heartbeat_s=settings.heartbeat_s,
            reconnections=broker.reconnections,
        )
        self._catalog = Catalog(self._view, registry)
        self._reader = ReplyReader(
            doorbell,
            replies,
            reply_ttl_ms=reply_ttl_ms,
            inbox_bytes=settings.client_buffer_bytes,
            reconnections=broker.reconnections,
        )
        self._ledger = Ledger(self.id, requests, UsageBooks(broker))
        self._turns = Turns(Limits(broker, self.id, limit_settings(settings)), settings)
        credentials = Credentials(broker)
        self._credentials = CredentialTable(credentials, parse_tokens(settings.provider_tokens))
        self._gatekeeper = Gatekeeper(self._credentials, clock, settings)
        books = MemberBooks(credentials, self._credentials, Memberships(broker), registry, lanes)
        access = BrokerAccess(settings, BrokerUsers(broker))
        self.members = Members(books, access, clock, settings, broker.keys.prefix)
        dead_jobs = DeadJobs(DeadLetters(broker), settings)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for each series that Prometheus has no use for
        counters = CollectorRegistry(auto_describe=False)
        self._tally = Tally(RequestCounters(counters), History(broker), clock)
        self._memory = Memory(ServedBook(broker), settings.affinity_ttl_s)
        endings = Endings()
        backstage = Backstage(
            hub=self.id,
            settings=settings,
            clock=clock,
            signing=signing,
            lanes=lanes,
            requests=requests,
            view=self._view,
            reader=self._reader,
            ledger=self._ledger,
            turns=self._turns,
            dead=dead_jobs,
            tally=self._tally,
            affinity=Affinity(self._view, self._memory, signing, self._tally, settings),
            near_lanes=NearLanes(broker),
            endings=endings,
            tracing=tracing,
        )
        self.dispatcher = Dispatcher(broker.keys, backstage)
        self._rounds = Rounds(self.dispatcher, queues, backstage, lambda: self._credentials.keys)
        self._resumption = make_resumption(broker, self.dispatcher, backstage, self._gatekeeper)
        steadiness = Steadiness(broker.reconnections)
        self._reaper = make_reaper(
            hub=self.id,
            settings=settings,
            broker=broker,
            requests=requests,
            view=self._view,
            clock=clock,
            holder=self.dispatcher,
            steadiness=steadiness,
            endings=endings,
            adopt=self._resumption.guards.adopt,
        )
        self._presence = Presence(self.id, settings, clock, registry, doorbell, requests, self.dispatcher, steadiness)
        self._broker_watch = BrokerWatch(broker)
        self.crew = Crew()
        inference = self._inference_routers(settings, tracing)
        self.app = self._make_app(settings, inference)
        self.front = Front(self.app, inference)
        picture = GridPicture(self._view, lanes, queues, registry, settings)
        overview = make_overview(self.id, broker, self._view, clock, settings)
        self.feed = OverviewFeed(overview, settings.max_watchers)
        self.app.include_router(overview_router(self._gatekeeper, overview, self.feed, settings))
        exposition = Exposition(counters, overview)
        self.app.include_router(
            operations_router(self.dispatcher, self._view, picture, exposition, self._gatekeeper, settings)
        )
        self._add_admin_routes(settings, broker, picture, dead_jobs, clock)
        self._add_provider_routes(settings, clock, registry, Nonces(broker))
        self.app.include_router(dashboard_router())

    def start(self) -> None:
        """Begin the background tasks."""
        self.crew.start("reader", self._reader.run())
        self.crew.start("keeper", self._reader.keep())
        self.crew.start("ticker", self._reader.tick())
        self.crew.start("ledger", self._ledger.run())
        self.crew.start("registry", self._view.run())
        self.crew.start("credentials", self._credentials.run())
        self.crew.start("places", self._rounds.follow_places())
        self.crew.start("slow clients", self._rounds.follow_slow_clients())
        self.crew.start("keys", self._rounds.follow_keys())
        self.crew.start("turns", self._turns.run())
        self.crew.start("turn keeper", self._turns.keep())
        self.crew.start("presence", self._presence.run())
        self.crew.start("broker watch", self._broker_watch.run())
        self.crew.start("tally", self._tally.run())
        self.crew.start("affinity", self._memory.run())
        self.crew.start("overview", self.feed.run())
        self._resumption.start(self.crew)
        self.crew.start("reaper", self._reaper.run())

    async def look(self, limit_s: float) -> None:
        """Wait until it is known what there is in the grid, or that the broker does not answer; at most so long."""
        await wait_or_stop(self._view.has_looked, limit_s)

    async def stop(self) -> None:
        """End the background tasks after a drain, the last words first."""
        await self.dispatcher.finish_closing(2)
        await self._turns.finish(2)
        await self._ledger.finish(2)
        await self._tally.finish(2)
        await self.crew.stop()
        await self._resumption.stop()
        await self._presence.leave()

    def _inference_routers(self, settings: HubSettings, tracing: Tracing) -> tuple[APIRouter, ...]:
        resumption = self._resumption
        resumable = ResumableIntake(resumption.guards, resumption.followings, resumption.idempotency, settings)
        intake = Intake(self._gatekeeper, self.dispatcher, resumable, self._tally, settings, tracing)
        return inference_router(intake), messages_router(intake), ollama_inference_router(intake)

    def _make_app(self, settings: HubSettings, inference: tuple[APIRouter, ...]) -> FastAPI:
        app = FastAPI(title="GhubAi hub", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
        install_error_handlers(app)
        for router in inference:
            app.include_router(router)
        app.include_router(ollama_models_router(self._catalog, self._gatekeeper, settings))
        app.include_router(models_router(self._view, self._gatekeeper, self._names))
        return app

    def _add_admin_routes(
        self, settings: HubSettings, broker: Broker, picture: GridPicture, dead_jobs: DeadJobs, clock: BrokerClock
    ) -> None:
        gatekeeper, credentials = self._gatekeeper, Credentials(broker)
        self.app.include_router(grid_router(gatekeeper, picture))
        nodes = NodeDesk(Registry(broker), ControlStreams(broker), self.members, settings)
        self.app.include_router(nodes_router(gatekeeper, picture, nodes))
        requests = RequestDesk(
            self.dispatcher,
            self._view,
            RequestBook(broker),
            ReplyStreams(broker),
            LastWords(broker),
            broker.keys,
            settings,
        )
        self.app.include_router(requests_router(gatekeeper, requests))
        resumption = self._resumption
        self.app.include_router(resumption_router(resumption.own, resumption.followings, requests, settings))
        dead = DeadDesk(DeadLetters(broker), dead_jobs, self.dispatcher, settings)
        self.app.include_router(dead_router(gatekeeper, dead))
        keys = KeyOffice(credentials, self._credentials, UsageBooks(broker), clock, settings)
        self.app.include_router(keys_router(gatekeeper, keys, settings))
        self.app.include_router(usage_router(gatekeeper, keys))
        self.app.include_router(
            why_router(gatekeeper, make_explainer(broker, self._view, self._credentials, clock, settings))
        )
        tokens = TokenOffice(credentials, self._credentials, self.members, clock, settings)
        self.app.include_router(tokens_router(gatekeeper, tokens, settings))

    def _add_provider_routes(
        self, settings: HubSettings, clock: BrokerClock, registry: Registry, nonces: Nonces
    ) -> None:
        self.app.include_router(register_router(self._gatekeeper, self.members, settings))
        reports = Reports(registry, clock, settings)
        self.app.include_router(health_router(self._gatekeeper, self.members, reports, settings))
        direct_keys = SigningKeys.parse(settings.direct_keys, "GHUB_HUB_DIRECT_KEYS")
        direct_calls = DirectCalls(direct_keys, nonces, clock, settings)
        tickets = DirectTickets(direct_keys, self._view, self._turns, clock, settings)
        self.app.include_router(direct_router(self._gatekeeper, tickets, settings))
        self.app.include_router(hmac_router(self._gatekeeper, self.members, direct_calls, settings))
