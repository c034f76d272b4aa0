"""The hub process: its HTTP server, its signals, its end."""

import asyncio
import signal

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from common import __version__
from common.broker.broker import connect
from common.process import run_process
from common.serving.connections import Crowd
from common.serving.server import FORCED_END_S, HttpServer, bind
from common.telemetry.switch import open_tracing
from hub.access.browsers import for_browsers
from hub.api.errors import error_response
from hub.api.shapes import shape_of
from hub.app import Hub, new_id
from hub.errors import HubFull
from hub.settings import HubSettings

log = structlog.get_logger()

FIRST_LOOK_S = 3.0
"""How long a hub that starts waits for its first look at the grid before it listens, s."""


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
        # Who sends requests to whatever listens must not find a hub that knows no model yet.
        await hub.crew.beside(hub.look(FIRST_LOOK_S), stop)
        hub.crew.start("http", server.serve_on(listener))
        log.info("hub_started", hub=hub.id, version=__version__, url=f"http://{address[0]}:{address[1]}")
        await hub.crew.until(stop)
        await _drain(hub, server, settings)
        hub.feed.close()
        server.should_exit = True
        await hub.crew.wait("http", FORCED_END_S + 2)
        log.info("hub_stopped", hub=hub.id)
    finally:
        await hub.stop()
        await broker.aclose()
        await tracing.aclose()


async def _drain(hub: Hub, server: HttpServer, settings: HubSettings) -> None:
    """Have requests sent elsewhere, and end when those that came are answered, or time is up.

    A load balancer that asks how this hub is sends it no more within the delay. One that does not ask tries another hub
    where a connection is refused, whatever was to be sent; so that comes before any request is refused.
    """
    limit_s = settings.shutdown_timeout_s
    log.info("draining", open_requests=hub.dispatcher.open_count, delay_s=settings.shutdown_delay_s, limit_s=limit_s)
    hub.dispatcher.leave()
    server.say_goodbye()
    await asyncio.sleep(settings.shutdown_delay_s)
    gives_up_at = asyncio.get_running_loop().time() + limit_s
    await server.stop_listening()
    await hub.dispatcher.hear_all(limit_s)
    await hub.dispatcher.drain(max(0.0, gives_up_at - asyncio.get_running_loop().time()))


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
