"""The hub process: its HTTP server, its signals, its end."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import structlog
import uvicorn

from common import __version__
from common.broker import connect
from common.errors import SettingsError
from common.process import run_process
from hub.app import Hub
from hub.settings import HubSettings

log = structlog.get_logger()

BACKLOG = 2048
FORCED_END_S = 1
"""What uvicorn grants connections after the hub's own drain, s."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: this process drains before the server may stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
    listener = _listen(settings)
    address = listener.getsockname()
    settings = settings.model_copy(update={"port": address[1]})
    broker = connect(settings.redis_url, prefix=settings.prefix, client_name=f"ghub-hub-{settings.name}")
    hub = Hub(settings, broker)
    server = _Server(
        uvicorn.Config(
            hub.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=75,  # longer than the 60 s after which common proxies let go
            timeout_graceful_shutdown=FORCED_END_S,
        )
    )
    try:
        hub.start()
        hub.crew.start("http", server.serve(sockets=[listener]))
        log.info("hub_started", hub=hub.id, version=__version__, url=f"http://{address[0]}:{address[1]}")
        await hub.crew.until(stop)
        log.info("draining", open_requests=hub.dispatcher.open_count, limit_s=settings.shutdown_timeout_s)
        await hub.dispatcher.drain(settings.shutdown_timeout_s)
        server.should_exit = True
        await hub.crew.wait("http", FORCED_END_S + 2)
        log.info("hub_stopped", hub=hub.id)
    finally:
        await hub.stop()
        await broker.aclose()


def _listen(settings: HubSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A connection whose client reads nothing would otherwise outlive the answer that was cut off, for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.send_timeout_s * 1000))
    if settings.reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as exc:
        listener.close()
        raise SettingsError(f"cannot listen on {settings.host}:{settings.port}: {exc.strerror}") from exc
    return listener


def run(settings: HubSettings) -> int:
    """Run a hub to its end; the process' exit status."""
    return run_process("hub", settings, serve(settings))
