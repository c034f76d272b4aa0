"""What hub, provider and front listen with: a socket, and a uvicorn that leaves signals and draining to its process."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from common.errors import SettingsError
from common.serving.connections import Connection, Crowd, Door

BACKLOG = 2048
FORCED_END_S = 1
"""What uvicorn grants connections after the process' own drain, s."""
FIRST_WORDS_S = 0.5
"""How long connections that were just made have for their first request when the server takes no more, s."""
UNSENT_BYTES = 128 * 1024
"""So much at most waits in the system for a client that reads more slowly than it is sent to."""


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the process drains before the server may stop."""

    def __init__(self, app: ASGIApp, crowd: Crowd | None = None) -> None:
        self._door = Door()
        self._make_connection = partial(Connection, crowd=crowd, door=self._door)
        self._listener: socket.socket | None = None
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", self._make_connection),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,  # longer than the 60 s after which common proxies let go
                timeout_graceful_shutdown=FORCED_END_S,
            )
        )

    def serve_on(self, listener: socket.socket) -> Coroutine[Any, Any, None]:
        """Serve on a socket of `bind`. Whoever connects from now on is answered, though it is accepted only later."""
        listener.listen(BACKLOG)
        self._listener = listener
        return self.serve(sockets=[listener])

    def say_goodbye(self) -> None:
        """Tell with each answer that it is the last on its connection, so that clients make new ones, elsewhere."""
        self._door.is_closing = True
        for connection in self._connections:
            connection.say_goodbye()

    async def stop_listening(self) -> None:
        """Refuse new connections, and take no more than one request from each that is there.

        What comes by a connection that was made in time is heard, be it accepted or not.
        """
        self.say_goodbye()
        if self._listener is not None and self.started:
            waiting = list(_accept_all(self._listener))
            for server in self.servers:
                server.close()
            loop = asyncio.get_running_loop()
            for one in waiting:
                await loop.connect_accepted_socket(self._connect, one)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WORDS_S):
                while any(connection.awaits_a_head for connection in self._connections):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
        for connection in self._connections:
            connection.shutdown()  # at once where no request is under way, else behind its answer
        await asyncio.sleep(0)  # tasks of requests that have just come begin

    @property
    def _connections(self) -> list[Connection]:
        return cast("list[Connection]", [*self.server_state.connections])

    def _connect(self) -> asyncio.Protocol:
        """A connection as uvicorn makes it."""
        return self._make_connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


def bind(host: str, port: int, *, send_timeout_s: float, reuse_port: bool = False) -> socket.socket:
    """A socket to serve on; nobody can connect before `HttpServer.serve_on`.

    Args:
        host: an address of this machine.
        port: 0 takes any free one.
        send_timeout_s: how long a client may read nothing before its connection ends.
        reuse_port: whether other processes may listen on the same port.

    Raises:
        SettingsError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A connection whose client reads nothing would otherwise outlive the answer that was cut off, for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(send_timeout_s * 1000))
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Else the system holds up to 4 MiB for a client, and tells no progress before it has read a third of that.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    return listener


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait to be accepted: closing their listener would reset them, with what was sent by them."""
    with contextlib.suppress(OSError):  # there are none, or no more files
        while True:
            yield listener.accept()[0]
