"""HTTP to hubs, by aiohttp: connections that are kept, bytes as they come, and one kind of failure."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from yarl import URL

from ghub.connect.errors import HubFailed
from ghub.connect.headers import Headers
from ghub.connect.hubs import Hub
from hub.errors import InvalidRequest

KEPT_S = 30
"""How long a connection without a request is kept; hubs and usual proxies keep theirs for longer."""
DEAD_AFTER = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""When a connection is over whose other end has gone without a word, as a machine does that loses its power: 25 s."""

MOST_JSON_BYTES = 2**20


class HubClient:
    """Asks hubs. Every way in which one may fail is HubFailed."""

    def __init__(self, connect_timeout_s: float) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEPT_S, socket_factory=_socket, ssl=ssl.create_default_context()
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            trust_env=False,
        )

    async def ask(
        self, hub: Hub, method: str, target: str, headers: Headers, body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request; the answer, which has begun. Whoever takes it has to `leave` it.

        Args:
            hub: which one.
            method: of HTTP.
            target: path and query, as the client wrote them.
            headers: to be sent as they are.
            body: None without one.

        Raises:
            HubFailed: no answer has begun.
            InvalidRequest: nothing like that can be asked.
        """
        try:
            return await self._session.request(
                method, URL(hub.url + target, encoded=True), headers=headers, data=body, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise HubFailed(str(exc), is_unsent=True) from exc
        except ValueError as exc:
            raise InvalidRequest("this path, or one of the headers, cannot be passed on") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise HubFailed(str(exc) or type(exc).__name__) from exc

    async def get_json(self, hub: Hub, path: str, headers: Headers, timeout_s: float) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON object of a path; without the latter an empty one. HubFailed without an answer in time."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self.ask(hub, "GET", path, headers)
                try:
                    body = await read_at_most(response, MOST_JSON_BYTES)
                finally:
                    leave(response)
        except TimeoutError as exc:
            raise HubFailed(f"no answer within {timeout_s:g} s") from exc
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        return response.status, said if isinstance(said, dict) else {}

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


def leave(response: aiohttp.ClientResponse) -> None:
    """End with an answer: its connection is kept if all of it was read, and closed otherwise."""
    if response.content.is_eof():
        response.release()
    else:
        response.close()


async def read_some(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of a body, empty at its end; HubFailed if there is no end."""
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise HubFailed("it broke off") from exc


async def read_at_most(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """A body's beginning, all of it if it is not longer; HubFailed if it breaks off before."""
    body = b""
    while len(body) < limit_bytes and (data := await read_some(response)):
        body += data
    return body


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices when the other machine is gone."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in DEAD_AFTER.items():
        if hasattr(socket, name):  # macOS lacks the first one
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
