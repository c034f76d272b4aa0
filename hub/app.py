"""The composition root of a hub: everything long-lived is made here and handed over."""

from uuid import uuid4

import structlog
from fastapi import FastAPI

from common import __version__
from common.broker import Broker
from common.clock import BrokerClock
from common.credentials import Credentials
from common.nonces import Nonces
from common.registry import Registry
from common.signing import SigningKeys
from common.streams.jobs import JobLanes
from common.streams.replies import Doorbell, ReplyStreams
from common.streams.requests import Requests, RequestTtls
from common.tasks import Crew
from common.types import HubId
from hub.api.errors import install_error_handlers
from hub.api.intake import Intake
from hub.api.openai.inference import inference_router
from hub.api.openai.models import models_router
from hub.api.operations import operations_router
from hub.api.provider.health import health_router
from hub.api.provider.hmac import hmac_router
from hub.backstage import Backstage
from hub.credential_table import CredentialTable
from hub.direct_calls import DirectCalls
from hub.dispatcher import Dispatcher
from hub.gatekeeper import Gatekeeper
from hub.grid_picture import GridPicture
from hub.ledger import Ledger
from hub.presence import Presence
from hub.provider_tokens import parse_tokens
from hub.registry_view import RegistryView
from hub.relay.reader import ReplyReader
from hub.reports import Reports
from hub.settings import HubSettings

log = structlog.get_logger()


class Hub:
    """A hub process without its HTTP server."""

    def __init__(self, settings: HubSettings, broker: Broker) -> None:
        self.id = HubId(f"{settings.name}-{uuid4().hex[:8]}")
        signing = SigningKeys.parse(settings.signing_key)
        if not signing:
            log.warning("jobs_unsigned", hint="set GHUB_SIGNING_KEY on hubs and providers to refuse forged jobs")
        replies, lanes, registry = ReplyStreams(broker), JobLanes(broker), Registry(broker)
        doorbell = Doorbell(broker, self.id)
        reply_ttl_ms = int(settings.reply_ttl_s * 1000)
        requests = Requests(broker, RequestTtls(int(settings.request_ttl_s * 1000), reply_ttl_ms))
        clock = BrokerClock(broker)
        self._view = RegistryView(registry, lanes, clock)
        self._reader = ReplyReader(
            doorbell, replies, reply_ttl_ms=reply_ttl_ms, inbox_bytes=settings.client_buffer_bytes
        )
        self._ledger = Ledger(requests)
        self._credentials = CredentialTable(Credentials(broker), parse_tokens(settings.provider_tokens))
        self._gatekeeper = Gatekeeper(self._credentials, clock, settings)
        backstage = Backstage(
            settings=settings,
            clock=clock,
            signing=signing,
            lanes=lanes,
            requests=requests,
            view=self._view,
            reader=self._reader,
            ledger=self._ledger,
        )
        self.dispatcher = Dispatcher(self.id, broker.keys, backstage)
        self._presence = Presence(self.id, settings, clock, registry, doorbell, self.dispatcher)
        self.crew = Crew()
        self.app = self._make_app(settings)
        picture = GridPicture(self._view, lanes, registry, settings)
        self.app.include_router(operations_router(self.dispatcher, self._view, picture))
        self._add_provider_routes(settings, clock, registry, Nonces(broker))

    def start(self) -> None:
        """Begin the background tasks."""
        self.crew.start("reader", self._reader.run())
        self.crew.start("keeper", self._reader.keep())
        self.crew.start("ticker", self._reader.tick())
        self.crew.start("ledger", self._ledger.run())
        self.crew.start("registry", self._view.run())
        self.crew.start("credentials", self._credentials.run())
        self.crew.start("places", self.dispatcher.follow_places())
        self.crew.start("presence", self._presence.run())

    async def stop(self) -> None:
        """End the background tasks after a drain, the last words first."""
        await self.dispatcher.finish_closing(2)
        await self._ledger.finish(2)
        await self.crew.stop()
        await self._presence.leave()

    def _make_app(self, settings: HubSettings) -> FastAPI:
        app = FastAPI(title="GhubAi hub", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
        install_error_handlers(app)
        app.include_router(inference_router(Intake(self._gatekeeper, self.dispatcher, settings)))
        app.include_router(models_router(self._view, self._gatekeeper))
        return app

    def _add_provider_routes(
        self, settings: HubSettings, clock: BrokerClock, registry: Registry, nonces: Nonces
    ) -> None:
        reports = Reports(registry, clock, settings)
        self.app.include_router(health_router(self._gatekeeper, reports, settings))
        direct_keys = SigningKeys.parse(settings.direct_keys, "GHUB_HUB_DIRECT_KEYS")
        direct_calls = DirectCalls(direct_keys, nonces, clock, settings)
        self.app.include_router(hmac_router(self._gatekeeper, direct_calls, settings))
