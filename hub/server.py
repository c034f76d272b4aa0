"""The hub process: its HTTP server, its signals, its end."""

import asyncio
import signal

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from common import __version__
from common.broker import connect
from common.connections import Crowd
from common.process import run_process
from common.serving import FORCED_END_S, HttpServer, bind
from common.telemetry.switch import open_tracing
from hub.access.browsers import for_browsers
from hub.api.errors import error_response
from hub.api.shapes import shape_of
from hub.app import Hub, new_id
from hub.errors import HubFull
from hub.settings import HubSettings

log = structlog.get_logger()


async def serve(settings: HubSettings) -> None:
    """Run a hub until SIGTERM or SIGINT; then drain.

    Raises:
        SettingsError: the address cannot be bound.
        RuntimeError: a background task or the server died.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    listener = bind(
        settings.host, settings.port, send_timeout_s=settings.send_timeout_s, reuse_port=settings.reuse_port
    )
    address = listener.getsockname()
    settings = settings.model_copy(update={"port": address[1]})
    broker = connect(settings.redis_url, prefix=settings.prefix, client_name=f"ghub-hub-{settings.name}")
    hub_id = new_id(settings.name)
    tracing = open_tracing(settings, "ghub-hub", hub_id)
    hub = Hub(settings, broker, tracing, hub_id)
    server = HttpServer(for_browsers(hub.front, settings), Crowd(settings.max_connections, _turning_away(settings)))
    try:
        hub.start()
        hub.crew.start("http", server.serve_on(listener))
        log.info("hub_started", hub=hub.id, version=__version__, url=f"http://{address[0]}:{address[1]}")
        await hub.crew.until(stop)
        log.info("draining", open_requests=hub.dispatcher.open_count, limit_s=settings.shutdown_timeout_s)
        await hub.dispatcher.drain(settings.shutdown_timeout_s)
        hub.feed.close()
        server.should_exit = True
        await hub.crew.wait("http", FORCED_END_S + 2)
        log.info("hub_stopped", hub=hub.id)
    finally:
        await hub.stop()
        await broker.aclose()
        await tracing.aclose()


def _turning_away(settings: HubSettings) -> ASGIApp:
    """What those hear who come when there are as many connections as may be."""

    async def turn_away(scope: Scope, receive: Receive, send: Send) -> None:
        error = HubFull(
            "this hub holds as many connections as it may",
            code="too_many_connections",
            retry_after_s=settings.retry_after_s,
        )
        await error_response(error, shape_of(scope["path"]), {"connection": "close"})(scope, receive, send)

    return turn_away


def run(settings: HubSettings) -> int:
    """Run a hub to its end; the process' exit status."""
    return run_process("hub", settings, serve(settings))
