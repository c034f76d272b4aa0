"""Connections to the broker from a URL, and its errors as ours.

redis-py's own retries are off: it repeats a command whose answer was lost, which would publish a job twice
(pitfalls: redis-py#3554). Each caller knows what it may repeat.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from weakref import WeakSet

from redis import exceptions as rx
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from common.errors import BrokerDenied, BrokerRefused, BrokerUnavailable, SettingsError
from common.keys import Keys

BLOCK_MS = 2000
"""Longest block of one read, ms: how late an idle process notices a connection that died without a word."""
COMMAND_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
COMMAND_CONNECTIONS = 4
"""A command is one round trip, so a few connections carry thousands a second."""
BLOCKING_CONNECTIONS = 4

UserAndPassword = tuple[str, str]


class Reconnections:
    """Counts how often a connection that had been lost was made again: the broker may have forgotten things since."""

    def __init__(self) -> None:
        self.count = 0
        self._seen: WeakSet[AbstractConnection] = WeakSet()

    async def note(self, connection: AbstractConnection) -> None:
        """A connection of the pool is made; redis-py lets us greet the broker in its stead."""
        await connection.on_connect()
        if connection in self._seen:
            self.count += 1
        self._seen.add(connection)


@dataclass(frozen=True, slots=True)
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

    async def aclose(self) -> None:
        """Close every connection."""
        await self.blocking.aclose()
        await self.commands.aclose()


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
        scheme = urlsplit(url).scheme
        if scheme not in ("redis", "rediss", "unix"):
            raise SettingsError(f"broker URL: {scheme or 'no'}:// is not one of redis://, rediss://, unix://")
        reconnections = Reconnections()
        return Broker(
            _client(url, client_name, COMMAND_CONNECTIONS, COMMAND_TIMEOUT_S, 15, credentials, reconnections),
            _client(url, client_name, BLOCKING_CONNECTIONS, BLOCK_MS / 1000 + 6, 0, credentials, Reconnections()),
            Keys(prefix),
            reconnections,
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
    url: str,
    name: str,
    connections: int,
    timeout_s: float,
    health_check_interval_s: int,
    credentials: Callable[[], UserAndPassword] | None,
    reconnections: Reconnections,
) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=COMMAND_TIMEOUT_S,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=health_check_interval_s,
        client_name=name,
        driver_info=None,  # no CLIENT SETINFO: Redis 7.0 knows none, so a provider's broker user may not say it
        protocol=2,  # one reply shape on every server and proxy; nothing here needs RESP3
        retry=Retry(NoBackoff(), 0),
        redis_connect_func=reconnections.note,
        credential_provider=None if credentials is None else _Current(credentials),
    )
    return Redis.from_pool(pool)


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
