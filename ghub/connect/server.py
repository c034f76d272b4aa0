"""The process of a front: its HTTP server, its signals, its end."""

import asyncio
import signal

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from common import __version__
from common.addresses import is_loopback
from common.errors import SettingsError
from common.process import run_process
from common.serving.connections import Crowd
from common.serving.server import FORCED_END_S, HttpServer, bind
from common.tasks import Crew
from ghub.connect.app import Front
from ghub.connect.client import HubClient
from ghub.connect.errors import FrontFull
from ghub.connect.freeing import LIMIT_S, Freeing
from ghub.connect.hubs import Hubs
from ghub.connect.lookout import Lookout
from ghub.connect.relay import Relay
from ghub.connect.settings import ConnectSettings
from hub.access.browsers import BrowserGuard
from hub.api.errors import error_response
from hub.api.shapes import shape_of

log = structlog.get_logger()


async def serve(settings: ConnectSettings) -> None:
    """Run a front until SIGTERM or SIGINT; then drain.

    Raises:
        SettingsError: no hub is named, or the address cannot be bound.
        RuntimeError: a background task or the server died.
    """
    if not settings.hubs:
        raise SettingsError("which hubs? Name them with --hub URL, or in GHUB_CONNECT_HUBS")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    listener = bind(settings.host, settings.port, send_timeout_s=settings.send_timeout_s)
    host, port, *_ = listener.getsockname()
    hubs, client = Hubs(settings.hubs), HubClient(settings.connect_timeout_s)
    freeing = Freeing(hubs, client)
    relay = Relay(hubs, client, freeing, settings)
    front = Front(hubs, relay, settings)
    server = HttpServer(_guarded(front, settings), Crowd(settings.max_connections, _turning_away(settings)))
    crew = Crew()
    try:
        crew.start("lookout", Lookout(hubs, client, settings).run())
        crew.start("watch", relay.watch())
        crew.start("http", server.serve_on(listener))
        log.info("connect_started", version=__version__, url=f"http://{host}:{port}", hubs=list(settings.hubs))
        if not is_loopback(settings.host) and settings.api_key is not None:
            log.warning("key_for_all", hint="whoever reaches this address asks with this front's API key")
        await crew.until(stop)
        log.info("draining", open_requests=relay.open_count, limit_s=settings.shutdown_timeout_s)
        front.is_draining = True
        await relay.finish(settings.shutdown_timeout_s)
        relay.end_all()
        await relay.finish(FORCED_END_S)
        server.should_exit = True
        await crew.wait("http", FORCED_END_S + 2)
        await freeing.finish(LIMIT_S)
        log.info("connect_stopped")
    finally:
        await crew.stop()
        await client.aclose()


def _guarded(front: Front, settings: ConnectSettings) -> ASGIApp:
    """A front that web pages stay out of: it may show a key for whoever reaches it."""
    return BrowserGuard(
        front,
        trusted_hosts=settings.trusted_hosts,
        allowed_origins=settings.allowed_origins,
        settings="GHUB_CONNECT_",
    )


def _turning_away(settings: ConnectSettings) -> ASGIApp:
    """What those hear who come when there are as many connections as may be."""

    async def turn_away(scope: Scope, receive: Receive, send: Send) -> None:
        error = FrontFull("this front holds as many connections as it may", retry_after_s=settings.retry_after_s)
        await error_response(error, shape_of(scope["path"]), {"connection": "close"})(scope, receive, send)

    return turn_away


def run(settings: ConnectSettings) -> int:
    """Run a front to its end; the process' exit status."""
    return run_process("connect", settings, serve(settings))
