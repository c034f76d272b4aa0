"""Connections to the broker from a URL, and its errors as ours.

redis-py's own retries are off: it repeats a command whose answer was lost, which would publish a job twice
(pitfalls: redis-py#3554). Each caller knows what it may repeat.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakSet

from redis import exceptions as rx
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from common.broker_connections import connection_class
from common.broker_url import SENTINEL_PORT, BrokerUrl
from common.errors import BrokerDenied, BrokerRefused, BrokerUnavailable, SettingsError
from common.keys import Keys
from common.line import Answer, ClientLine, Line, OwnLine
from common.sentinel import SENTINEL_TIMEOUT_S, Sentinels

BLOCK_MS = 2000
"""Longest block of one read, ms: how late an idle process notices a connection that died without a word."""
COMMAND_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
COMMAND_CONNECTIONS = 4
"""A command is one round trip, so a few connections carry thousands a second."""
BLOCKING_CONNECTIONS = 4
BLOCKING_TIMEOUT_S = BLOCK_MS / 1000 + 6

UserAndPassword = tuple[str, str]

_ALIKE: Mapping[str, Any] = {
    "driver_info": None,  # no CLIENT SETINFO: Redis 7.0 knows none, so a provider's broker user may not say it
    "protocol": 2,  # one reply shape on every server and proxy; nothing here needs RESP3
    "retry": Retry(NoBackoff(), 0),
}


class Reconnections:
    """Counts how often a connection that had been lost was made again: the broker may have forgotten things since."""

    def __init__(self) -> None:
        self.count = 0
        self._seen: WeakSet[AbstractConnection] = WeakSet()
        self._place: object = None

    async def note(self, connection: AbstractConnection) -> None:
        """A connection of the pool is made; redis-py lets us greet the broker in its stead."""
        await connection.on_connect()
        place = (getattr(connection, "host", None), getattr(connection, "port", None))
        # With sentinels even a connection that is new can lead to a server that never heard of what was written.
        if connection in self._seen or self._place not in (None, place):
            self.count += 1
        self._seen.add(connection)
        self._place = place


@dataclass(frozen=True)
class Broker:
    """The two ways to talk to the broker, and the names of its keys.

    `commands` answers at once or fails within 5 s. `blocking` is for reads that block up to `BLOCK_MS`; each such
    reader holds one connection for as long as it lives.
    """

    commands: Redis
    blocking: Redis
    keys: Keys
    reconnections: Reconnections = field(default_factory=Reconnections)
    """Of `commands`."""
    sentinels: Sentinels | None = None
    """Who names the server, where it is not the URL."""
    own_lines: bool = False
    """Whether lines have connections of their own; else they go through the clients."""
    _lines: list[Line] = field(default_factory=list)

    @cached_property
    def line(self) -> Line:
        """For what is said on a request's way: it answers at once or fails within 5 s."""
        return self._line(self.commands, COMMAND_TIMEOUT_S, is_cut_by_cancel=False)

    def blocking_line(self) -> Line:
        """A line for one reader that blocks."""
        return self._line(self.blocking, BLOCKING_TIMEOUT_S, is_cut_by_cancel=True)

    def _line(self, client: Redis, timeout_s: float, *, is_cut_by_cancel: bool) -> Line:
        line: Line = ClientLine(client)
        if self.own_lines:
            line = OwnLine(client.connection_pool, timeout_s, is_cut_by_cancel=is_cut_by_cancel)
        self._lines.append(line)
        return line

    async def aclose(self) -> None:
        """Close every connection."""
        for line in self._lines:
            await line.aclose()
        await self.blocking.aclose()
        await self.commands.aclose()
        if self.sentinels is not None:
            await self.sentinels.aclose()


def connect(
    url: str, *, prefix: str, client_name: str, credentials: Callable[[], UserAndPassword] | None = None
) -> Broker:
    """Make the clients for a broker URL; nothing is sent before the first command.

    Args:
        url: where it is; with user and password in it unless `credentials` are given.
        prefix: what every key starts with.
        client_name: how the broker's operator sees these connections.
        credentials: asked at each new connection, so that a password may change while the clients live.

    Raises:
        SettingsError: the URL is of no kind that is known here.
    """
    try:
        parsed = BrokerUrl.parse(url)
        options: dict[str, Any] = dict(parse_url(parsed.server_url))
        kind = options.pop("connection_class", AbstractConnection)
        options["connection_class"] = connection_class(kind, follows=parsed.has_sentinels)
        sentinels = _sentinels(parsed, client_name, options) if parsed.has_sentinels else None
        if sentinels is not None:
            options["sentinels"] = sentinels
        common = {"client_name": client_name, "credential_provider": credentials and _Current(credentials), **options}
        reconnections = Reconnections()
        return Broker(
            _client(COMMAND_CONNECTIONS, COMMAND_TIMEOUT_S, 15, reconnections, common),
            _client(BLOCKING_CONNECTIONS, BLOCKING_TIMEOUT_S, 0, Reconnections(), common),
            Keys(prefix),
            reconnections,
            sentinels,
            own_lines=True,
        )
    except ValueError as exc:
        raise SettingsError(f"broker URL: {exc}") from exc


class _Current(CredentialProvider):
    """Gives each new connection what counts at that moment."""

    def __init__(self, credentials: Callable[[], UserAndPassword]) -> None:
        self._credentials = credentials

    def get_credentials(self) -> UserAndPassword:
        return self._credentials()

    async def get_credentials_async(self) -> UserAndPassword:
        return self._credentials()


def _client(
    connections: int,
    timeout_s: float,
    health_check_interval_s: int,
    reconnections: Reconnections,
    options: Mapping[str, Any],
) -> Redis:
    ours = {
        "max_connections": connections,
        "timeout": COMMAND_TIMEOUT_S,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": health_check_interval_s,
        "redis_connect_func": reconnections.note,
        **_ALIKE,
    }
    return Redis.from_pool(BlockingConnectionPool(**{**ours, **options}))  # what the URL says counts


def _sentinels(url: BrokerUrl, client_name: str, options: Mapping[str, Any]) -> Sentinels:
    """The sentinels of a URL; with TLS where the servers have it, by the same certificates."""
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    more: dict[str, Any] = {**_ALIKE, **url.sentinel_secrets, **tls}
    return Sentinels(
        url.service,
        [
            Redis(
                host=address.host,
                port=address.port or SENTINEL_PORT,
                ssl=url.has_tls,
                socket_timeout=SENTINEL_TIMEOUT_S,
                socket_connect_timeout=SENTINEL_TIMEOUT_S,
                client_name=client_name,
                **more,
            )
            for address in url.addresses
        ],
    )


def raise_first(answers: Sequence[Answer]) -> None:
    """Raise the first refusal among the answers of a line."""
    for answer in answers:
        if isinstance(answer, rx.ResponseError):
            raise answer


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turn what redis-py raises into BrokerUnavailable, BrokerDenied or BrokerRefused."""
    try:
        yield
    except (rx.AuthenticationError, rx.AuthorizationError, rx.NoPermissionError) as exc:
        raise BrokerDenied(f"not allowed: {exc}") from exc
    except (rx.ConnectionError, rx.TimeoutError, rx.ReadOnlyError, rx.MasterDownError, OSError) as exc:
        raise BrokerUnavailable(str(exc) or type(exc).__name__) from exc
    except rx.RedisError as exc:
        raise BrokerRefused(str(exc)) from exc
