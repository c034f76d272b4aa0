"""Puts together the routes of a hub: those that clients, operators and providers call."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from common import __version__
from common.broker.broker import Broker
from common.records.credentials import Credentials
from common.records.nonces import Nonces
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.records.usage import UsageBooks
from common.signing import SigningKeys
from common.streams.control import ControlStreams
from common.streams.dead import DeadLetters
from common.streams.last_word import LastWords
from common.streams.queues import Queues
from common.streams.replies import ReplyStreams
from hub.access.assembly import Access
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
from hub.grid.picture import GridPicture
from hub.grid.reports import Reports
from hub.office.dead_jobs import DeadDesk
from hub.office.keys import KeyOffice
from hub.office.nodes import NodeDesk
from hub.office.requests import RequestDesk
from hub.office.tokens import TokenOffice
from hub.overview.feed import OverviewFeed
from hub.overview.snapshot import Overview
from hub.requests.backstage import Backstage
from hub.requests.dispatcher import Dispatcher
from hub.resume.assembly import Resumption
from hub.why.assembly import make_explainer


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the routes lead to."""

    broker: Broker
    access: Access
    stage: Backstage
    dispatcher: Dispatcher
    resumption: Resumption
    overview: Overview
    feed: OverviewFeed
    counters: CollectorRegistry


def make_routes(rooms: Rooms) -> tuple[FastAPI, Front]:
    """An application of all routes, and the way in before it."""
    app = FastAPI(title="GhubAi hub", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    install_error_handlers(app)
    inference = [*_inference(rooms)]
    for router in (*inference, *_lists_of_models(rooms), *_operations(rooms), *_for_providers(rooms)):
        app.include_router(router)
    app.include_router(dashboard_router())
    return app, Front(app, inference)


def _inference(rooms: Rooms) -> Iterator[APIRouter]:
    """What becomes jobs."""
    stage, resumption, settings = rooms.stage, rooms.resumption, rooms.stage.settings
    resumable = ResumableIntake(resumption.guards, resumption.followings, resumption.idempotency, settings)
    intake = Intake(rooms.access.gatekeeper, rooms.dispatcher, resumable, stage.tally, settings, stage.tracing)
    yield inference_router(intake)
    yield messages_router(intake)
    yield ollama_inference_router(intake)


def _lists_of_models(rooms: Rooms) -> Iterator[APIRouter]:
    view, gatekeeper = rooms.stage.view, rooms.access.gatekeeper
    catalog = Catalog(view, Registry(rooms.broker))
    yield ollama_models_router(catalog, gatekeeper, rooms.stage.settings)
    yield models_router(view, gatekeeper, view.names)


def _operations(rooms: Rooms) -> Iterator[APIRouter]:
    """How things stand, and what operators do about it; of their own requests clients may ask too."""
    broker, access, stage, dispatcher = rooms.broker, rooms.access, rooms.stage, rooms.dispatcher
    gatekeeper, settings, view, clock = access.gatekeeper, stage.settings, stage.view, stage.clock
    registry, stored, letters = Registry(broker), Credentials(broker), DeadLetters(broker)
    yield overview_router(gatekeeper, rooms.overview, rooms.feed, settings)
    picture = GridPicture(view, stage.lanes, Queues(broker), registry, settings)
    exposition = Exposition(rooms.counters, rooms.overview)
    yield operations_router(dispatcher, view, picture, exposition, gatekeeper, settings)
    yield grid_router(gatekeeper, picture)
    yield nodes_router(gatekeeper, picture, NodeDesk(registry, ControlStreams(broker), access.members, settings))
    requests = RequestDesk(
        dispatcher, view, RequestBook(broker), ReplyStreams(broker), LastWords(broker), broker.keys, settings
    )
    yield requests_router(gatekeeper, requests)
    yield resumption_router(rooms.resumption.own, rooms.resumption.followings, requests, settings)
    yield dead_router(gatekeeper, DeadDesk(letters, stage.dead, dispatcher, settings))
    keys = KeyOffice(stored, access.credentials, UsageBooks(broker), clock, settings)
    yield keys_router(gatekeeper, keys, settings)
    yield usage_router(gatekeeper, keys)
    yield why_router(gatekeeper, make_explainer(broker, view, access.credentials, clock, settings))
    tokens = TokenOffice(stored, access.credentials, access.members, clock, settings)
    yield tokens_router(gatekeeper, tokens, settings)


def _for_providers(rooms: Rooms) -> Iterator[APIRouter]:
    """What providers call, and what direct calls of them need."""
    access, stage = rooms.access, rooms.stage
    gatekeeper, members, settings, clock = access.gatekeeper, access.members, stage.settings, stage.clock
    yield register_router(gatekeeper, members, settings)
    yield health_router(gatekeeper, members, Reports(Registry(rooms.broker), clock, settings), settings)
    keys = SigningKeys.parse(settings.direct_keys, "GHUB_HUB_DIRECT_KEYS")
    yield direct_router(gatekeeper, DirectTickets(keys, stage.view, stage.turns, clock, settings), settings)
    yield hmac_router(gatekeeper, members, DirectCalls(keys, Nonces(rooms.broker), clock, settings), settings)
