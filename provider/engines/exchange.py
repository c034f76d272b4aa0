"""The connections to an engine that questions go out on: HTTP/1.1 as llhttp reads it, and no more around it than that.

Each carries one exchange at a time. One whose answer was read to its end is kept for the next question; one that is
left before that is closed, which stops the engine. Against aiohttp it halves what a short question costs, and a paced
event costs a quarter (docs/decisions/0005).
"""

import asyncio
import errno
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from typing import cast
from urllib.parse import unquote, urlsplit

import httptools

KEEP_ALIVE_S = 2.0
"""Below what engines keep an idle connection for: 5 s where uvicorn or llama.cpp's server is asked."""
READ_BUFFER_BYTES = 256 * 1024
"""What may wait to be taken before the engine is read no further."""
MAX_HEAD_BYTES = 64 * 1024
_UNSAFE = re.compile(r"[^\x20-\x7e]")
"""What cannot stand in a header."""


class ExchangeBroken(Exception):
    """The connection was lost before the answer's end, or it carries no HTTP."""


class Exchange(asyncio.Protocol):
    """One connection: a question, its answer, then perhaps the next one."""

    def __init__(self, connections: "Connections") -> None:
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self.is_lost = False
        self.was_unread = False
        """Whether the other end closed it before it had read all that was sent to it: its system said so by a reset."""
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._head_bytes = 0
        self._has_length = False
        self._may_be_kept = False
        self._error = ""
        self.headers: dict[bytes, bytes] = {}
        self.status = 0
        """Of the answer; 0 before its head has come."""
        self.is_complete = False

    @property
    def was_stream(self) -> bool:
        """Whether the answer told no length beforehand."""
        return b"content-length" not in self.headers

    async def ask(self, data: bytes) -> None:
        """Send a question, and wait for the head of its answer; ExchangeBroken if none comes."""
        if self.is_lost or self._transport is None or self._transport.is_closing():  # uvloop's raises if written to
            raise ExchangeBroken("the connection is closed")
        self._begin()
        self._transport.write(data)
        while not self.status:
            await self._news()
        if self._error:
            raise ExchangeBroken(self._error)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes, as many as came together; ExchangeBroken if it breaks off."""
        while True:
            if self._parts:
                parts, self._parts, self._waiting_bytes = self._parts, [], 0
                if self._is_paused:
                    self._read_on()
                yield parts[0] if len(parts) == 1 else b"".join(parts)
            elif self.is_complete:
                return
            else:
                await self._news()

    def leave(self) -> None:
        """Keep the connection for the next question if this answer was read to its end, else close it."""
        if self.is_complete and not self._parts and not self.is_lost and self._may_be_kept:
            self._connections.keep(self)
        else:
            self.close()

    def close(self) -> None:
        """Close it at once."""
        self.is_lost = True
        if self._transport is not None:
            self._transport.abort()

    async def _news(self) -> None:
        if self.is_lost or self._error:
            raise ExchangeBroken(self._error or "the connection was closed")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _read_on(self) -> None:
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self.is_complete:  # nobody asked for more
            self.close()
            return
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if not self.status and self._head_bytes > MAX_HEAD_BYTES:
                raise httptools.HttpParserError("a head without end")
        except httptools.HttpParserError as exc:
            self._error = f"the engine speaks no HTTP: {exc}"
            self.close()
        if self._waiting_bytes > READ_BUFFER_BYTES and not self._is_paused and not self.is_lost:
            self._is_paused = True
            if self._transport is not None:
                self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """The other end has closed it; what reached it after that was refused."""
        if self._transport is not None:
            refused = self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.was_unread = refused in (errno.EPIPE, errno.ECONNRESET)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed; that ends an answer which told no length."""
        self.was_unread |= isinstance(exc, ConnectionResetError | BrokenPipeError)
        if self.status and not self._has_length and exc is None and not self._error:
            self.is_complete = True
        self.is_lost = True
        self._connections.forget(self)
        self._wake()

    # httptools' parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the answer."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head has come; those below 200 only announce it."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
            return
        self.status = status
        self._has_length = b"content-length" in self.headers or b"transfer-encoding" in self.headers
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            self._error = "the engine compresses its answer, though it was not asked to"

    def on_body(self, body: bytes) -> None:
        """A part of the answer."""
        self._parts.append(body)
        self._waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        """The answer has ended."""
        self.is_complete = self.status >= 200
        self._may_be_kept = self._parser.should_keep_alive()


class Connections:
    """The connections to one address.

    Args:
        url: of the engine; its path stands before every other.
        headers: sent with each question.
        connect_timeout_s: for a new connection.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = parts.path
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout_s = connect_timeout_s
        user, _, host = parts.netloc.rpartition("@")
        if user:
            headers = {"Authorization": f"Basic {b64encode(unquote(user).encode()).decode()}", **headers}
        self._head = _lines({"Host": host, "Content-Type": "application/json", **headers})
        self._idle: list[Exchange] = []
        self._keeps_streams = True
        """llama.cpp's server closes each connection after a streamed answer without saying so. About half of the
        questions that followed at once went out into a closing one: once it was seen to do so, none is kept."""

    def question(self, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """A question as it goes out."""
        head = f"POST {_safe(self._path + path)} HTTP/1.1\r\n{self._head}{_lines(headers)}"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def idle(self) -> Exchange | None:
        """A connection that was kept, if there is one."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            exchange = self._idle.pop()
            if not exchange.is_lost and now - exchange.idle_since < KEEP_ALIVE_S:
                return exchange
            exchange.close()
        return None

    async def open(self) -> Exchange:
        """A new connection; OSError or TimeoutError if there is none to be had."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            _, exchange = await loop.create_connection(lambda: Exchange(self), self._host, self._port, ssl=self._ssl)
        return exchange

    def keep(self, exchange: Exchange) -> None:
        """Its answer was read: the next question may have it."""
        if exchange.was_stream and not self._keeps_streams:
            exchange.close()
            return
        exchange.idle_since = asyncio.get_running_loop().time()
        self._idle.append(exchange)

    def forget(self, exchange: Exchange) -> None:
        """It was closed."""
        if exchange in self._idle:
            self._idle.remove(exchange)
            self._keeps_streams &= not exchange.was_stream

    def close(self) -> None:
        """Close those that wait."""
        for exchange in [*self._idle]:
            exchange.close()
        self._idle.clear()


def _lines(headers: Mapping[str, str]) -> str:
    """As they stand in a head. What cannot stand there is left out: names of requests come from the broker."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items() if _UNSAFE.search(value) is None)


def _safe(path: str) -> str:
    if _UNSAFE.search(path) or " " in path:
        raise ValueError(f"no path of an engine: {unquote(path)!r}")
    return path
