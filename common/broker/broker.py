"""Connections to the broker from a URL.

redis-py's own retries are off: it repeats a command whose answer was lost, which would publish a job twice
(pitfalls: redis-py#3554). Each caller knows what it may repeat.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from common.broker.cluster import LOOK_TIMEOUT_S, Cluster
from common.broker.cluster_client import ClusterClient
from common.broker.cluster_line import ClusterLine
from common.broker.connections import connection_class
from common.broker.line import Answer, Line, OwnLine
from common.broker.reconnections import ClusterReconnections, CountedReconnections, Reconnections, greet
from common.broker.sentinel import SENTINEL_TIMEOUT_S, Sentinels
from common.broker.url import SENTINEL_PORT, Address, BrokerUrl
from common.errors import SettingsError
from common.keys import Keys

BLOCK_MS = 2000
"""Longest block of one read, ms: how late an idle process notices a connection that died without a word."""
COMMAND_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
COMMAND_CONNECTIONS = 4
"""A command is one round trip, so a few connections carry thousands a second."""
BLOCKING_TIMEOUT_S = BLOCK_MS / 1000 + 6

UserAndPassword = tuple[str, str]

_ALIKE: Mapping[str, Any] = {
    "driver_info": None,  # no CLIENT SETINFO: Redis 7.0 knows none, so a provider's broker user may not say it
    "protocol": 2,  # one reply shape on every server and proxy; nothing here needs RESP3
    "retry": Retry(NoBackoff(), 0),
}


class LineMaker(Protocol):
    """Makes a line with connections of its own."""

    def __call__(self, *, blocks: bool) -> Line:
        """`blocks`: for one reader that blocks."""
        ...


@dataclass(frozen=True)
class Broker:
    """The two ways to talk to the broker, and the names of its keys.

    `commands` speaks in redis-py's words, a line in the broker's own. Both answer at once or fail within 5 s.
    """

    commands: Redis
    keys: Keys
    make_line: LineMaker
    as_stranger: "Callable[[], Broker]"
    """Makes a broker at the same place that is told no name and no password; close it after use."""
    reconnections: Reconnections = field(default_factory=CountedReconnections)
    """Of `commands`."""
    sentinels: Sentinels | None = None
    """Who names the server, where it is not the URL."""
    cluster: Cluster | None = None
    """Who has which key, where that is not one server."""
    _lines: list[Line] = field(default_factory=list)

    @cached_property
    def line(self) -> Line:
        """For what is said on a request's way."""
        return self._line(blocks=False)

    def blocking_line(self) -> Line:
        """A line for one reader that blocks, up to `BLOCK_MS` nearly always."""
        return self._line(blocks=True)

    def _line(self, *, blocks: bool) -> Line:
        line = self.make_line(blocks=blocks)
        self._lines.append(line)
        return line

    async def everywhere(self, *command: str | bytes) -> list[Answer]:
        """Say this to every server that the broker is made of, which is one but for a cluster; an answer of each.

        An answer may be a redis ResponseError. Redis-py's errors come through.
        """
        if self.cluster is not None:
            return await self.cluster.everywhere(*command)
        return await self.line.ask((command,))

    async def aclose(self) -> None:
        """Close every connection."""
        for line in self._lines:
            await line.aclose()
        await self.commands.aclose()
        for guide in (self.sentinels, self.cluster):
            if guide is not None:
                await guide.aclose()


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
        common = {"client_name": client_name, "credential_provider": credentials and _Current(credentials), **options}

        def stranger() -> Broker:
            return connect(str(parsed.without_who()), prefix=prefix, client_name=client_name)

        if parsed.is_cluster:
            return _cluster_broker(parsed, Keys(prefix), common, stranger)
        sentinels = _sentinels(parsed, client_name, options) if parsed.has_sentinels else None
        if sentinels is not None:
            common["sentinels"] = sentinels
        reconnections = CountedReconnections()
        ours = {"health_check_interval": 15, "redis_connect_func": reconnections.note}
        commands = Redis.from_pool(_pool(COMMAND_CONNECTIONS, COMMAND_TIMEOUT_S, {**ours, **common}))

        def line(*, blocks: bool) -> Line:
            if not blocks:
                return OwnLine(commands.connection_pool, COMMAND_TIMEOUT_S)
            return OwnLine(_pool(1, BLOCKING_TIMEOUT_S, common), BLOCKING_TIMEOUT_S, is_cut_by_cancel=True)

        return Broker(commands, Keys(prefix), line, stranger, reconnections, sentinels)
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


def _pool(connections: int, timeout_s: float, options: Mapping[str, Any]) -> BlockingConnectionPool:
    ours = {
        "max_connections": connections,
        "timeout": COMMAND_TIMEOUT_S,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": 0,
        "redis_connect_func": greet,
    }
    return BlockingConnectionPool(**{**ours, **options, **_ALIKE})  # what the URL says counts, but for the last


def _cluster_broker(url: BrokerUrl, keys: Keys, options: Mapping[str, Any], stranger: Callable[[], Broker]) -> Broker:
    """A broker of many servers. Its clients speak on lines too: nothing is asked of redis-py's own for clusters."""

    def line_to(server: Address, timeout_s: float, *, blocks: bool = False) -> OwnLine:
        there = {**options, "host": server.host, "port": server.port}
        return OwnLine(_pool(1, timeout_s, there), timeout_s, is_cut_by_cancel=blocks)

    def line(*, blocks: bool) -> ClusterLine:
        timeout_s = BLOCKING_TIMEOUT_S if blocks else COMMAND_TIMEOUT_S
        return ClusterLine(cluster, partial(line_to, timeout_s=timeout_s, blocks=blocks), timeout_s)

    cluster = Cluster(url.addresses, partial(line_to, timeout_s=LOOK_TIMEOUT_S))
    commands = line(blocks=False)
    client = ClusterClient(commands, _pool(1, COMMAND_TIMEOUT_S, options))
    return Broker(client, keys, line, stranger, ClusterReconnections(commands), cluster=cluster)


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
