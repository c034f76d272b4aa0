"""How hub and provider serve HTTP.

A socket, a uvicorn that leaves signals and draining to its process, and limits on what clients send and how slowly they
read.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Self, cast

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Send

from common.connections import Connection, Crowd, Door
from common.errors import BodyTooLong, ClientGone, SettingsError

BACKLOG = 2048
FORCED_END_S = 1
"""What uvicorn grants connections after the process' own drain, s."""
FIRST_WORDS_S = 0.5
"""How long connections that were just made have for their first request when the server takes no more, s."""
UNSENT_BYTES = 128 * 1024
"""So much at most waits in the system for a client that reads more slowly than it is sent to."""
PIECE_BYTES = 64 * 1024
"""Sent at once: the clock on a client that reads nothing must not catch one that reads a large answer slowly."""


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


async def collect_body(request: Request, limit_bytes: int, on_part: Callable[[int], None] = lambda _: None) -> bytes:
    """A request's body as it was sent.

    Args:
        request: whose body was not read yet.
        limit_bytes: longer ones are not taken.
        on_part: hears how many bytes came with each part; what it raises ends the reading.

    Raises:
        BodyTooLong: it is longer than allowed; the rest is not read.
        ClientGone: the connection ended within it.
    """
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > limit_bytes:
        raise BodyTooLong(f"the body has {told} bytes, the limit is {limit_bytes}")
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit_bytes:
                raise BodyTooLong(f"the body has more than {limit_bytes} bytes")
            on_part(len(part))
            parts.append(part)
    except ClientDisconnect as exc:
        raise ClientGone("the client closed the connection within its body") from exc
    return b"".join(parts)


class Sender:
    """Writes one answer, in pieces, each of which the client must take within a time limit.

    Used as a context by the task that answers. Every method raises ClientGone where the client does not take it. One
    timer looks now and then how long the present piece has waited, since one for each piece cost a third of sending it:
    a limit may be noticed late by a quarter of it.
    """

    def __init__(self, send: Send, timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since: float | None = None
        self._is_late = False
        self.has_begun = False

    def __enter__(self) -> Self:
        """Begin to look at the clock."""
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._timeout_s / 4, self._look_at_clock)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head."""
        self.has_begun = True
        await self._put({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body, or with `more` unset the last of it."""
        for at in range(0, len(data) or 1, PIECE_BYTES):
            piece, end = data[at : at + PIECE_BYTES], at + PIECE_BYTES
            await self._put({"type": "http.response.body", "body": piece, "more_body": more or end < len(data)})

    async def _put(self, message: Message) -> None:
        self._waits_since = self._loop.time()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if not self._is_late or self._task is None:
                raise
            self._task.uncancel()
            raise ClientGone(f"the client read nothing for {self._timeout_s:g} s") from None
        except OSError as exc:
            raise ClientGone(str(exc)) from exc
        finally:
            self._waits_since = None

    def _look_at_clock(self) -> None:
        since = self._waits_since
        if since is not None and self._loop.time() - since >= self._timeout_s and self._task is not None:
            self._is_late = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(self._timeout_s / 4, self._look_at_clock)
