"""Connections to the broker from a URL, and its errors as ours.

redis-py's own retries are off: it repeats a command whose answer was lost, which would publish a job twice
(pitfalls: redis-py#3554). Each caller knows what it may repeat.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from redis import exceptions as rx
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from common.errors import BrokerRefused, BrokerUnavailable, SettingsError
from common.keys import Keys

BLOCK_MS = 2000
"""Longest block of one read, ms: how late an idle process notices a connection that died without a word."""
COMMAND_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
COMMAND_CONNECTIONS = 4
"""A command is one round trip, so a few connections carry thousands a second."""
BLOCKING_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Broker:
    """The two ways to talk to the broker, and the names of its keys.

    `commands` answers at once or fails within 5 s. `blocking` is for reads that block up to `BLOCK_MS`; each such
    reader holds one connection for as long as it lives.
    """

    commands: Redis
    blocking: Redis
    keys: Keys

    async def aclose(self) -> None:
        """Close every connection."""
        await self.blocking.aclose()
        await self.commands.aclose()


def connect(url: str, *, prefix: str, client_name: str) -> Broker:
    """Make the clients for a broker URL; nothing is sent before the first command.

    Raises:
        SettingsError: the URL is of no kind that is known here.
    """
    try:
        scheme = urlsplit(url).scheme
        if scheme not in ("redis", "rediss", "unix"):
            raise SettingsError(f"broker URL: {scheme or 'no'}:// is not one of redis://, rediss://, unix://")
        return Broker(
            _client(url, client_name, COMMAND_CONNECTIONS, COMMAND_TIMEOUT_S, health_check_interval=15),
            _client(url, client_name, BLOCKING_CONNECTIONS, BLOCK_MS / 1000 + 6, health_check_interval=0),
            Keys(prefix),
        )
    except ValueError as exc:
        raise SettingsError(f"broker URL: {exc}") from exc


def _client(url: str, name: str, connections: int, timeout_s: float, *, health_check_interval: int) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=COMMAND_TIMEOUT_S,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        health_check_interval=health_check_interval,
        client_name=name,
        protocol=2,  # one reply shape on every server and proxy; nothing here needs RESP3
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turn what redis-py raises into BrokerUnavailable or BrokerRefused."""
    try:
        yield
    except (rx.AuthenticationError, rx.AuthorizationError, rx.NoPermissionError) as exc:
        raise BrokerRefused(f"not allowed: {exc}") from exc
    except (rx.ConnectionError, rx.TimeoutError, rx.ReadOnlyError, rx.MasterDownError, OSError) as exc:
        raise BrokerUnavailable(str(exc) or type(exc).__name__) from exc
    except rx.RedisError as exc:
        raise BrokerRefused(str(exc)) from exc
