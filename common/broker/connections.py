"""Connections to the broker that are given up when their server turns out to be no master any more.

A server that was demoted, or lacks the replicas it must have, says so in answer to a write and keeps the connection. It
is dropped here, so that the next attempt goes where the broker's address, or its sentinels, lead by then.
"""

from collections.abc import Iterable
from typing import Any

from redis import exceptions as rx
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from common.broker.errors import is_deposed
from common.broker.sentinel import Sentinels
from common.broker.url import Address


class _Steady(AbstractConnection):
    """Ends when its server says that it is not the one to talk to."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - redis-py's own
        try:
            return await super().read_response(*args, **kwargs)
        except rx.ResponseError as exc:
            if not is_deposed(exc):
                raise
            await self.disconnect(nowait=True)
            raise rx.ConnectionError(str(exc)) from exc

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        try:
            await super()._send_packed_command(command)
        except RuntimeError as exc:  # uvloop's word for a socket that was closed a moment ago
            raise ConnectionResetError("the connection was lost") from exc


class _Following(_Steady, Connection):
    """Asks for the master each time it is made."""

    def __init__(self, *, sentinels: Sentinels, **kwargs: Any) -> None:  # noqa: ANN401 - redis-py's own
        super().__init__(**kwargs)
        self._sentinels = sentinels
        sentinels.follow(self)

    async def _connect(self) -> None:
        master = await self._sentinels.find()
        self.host, self.port = master.host, master.port or 0
        await super()._connect()  # type: ignore[no-untyped-call]  # redis-py says no types here
        if self._sentinels.master != master:  # another one has found the new master meanwhile
            await self.disconnect(nowait=True)
            raise rx.ConnectionError(f"{master} is the master no more")

    def leave_unless_at(self, master: Address) -> None:
        """Cut it if it leads elsewhere: whoever reads from it hears so at once."""
        if self._writer is not None and Address(self.host, self.port) != master:
            self._writer.transport.abort()


class SteadyConnection(_Steady, Connection):
    """To a server."""


class SteadyTlsConnection(_Steady, SSLConnection):
    """To a server, with TLS."""


class SteadySocketConnection(_Steady, UnixDomainSocketConnection):
    """To a server on this machine."""


class FollowingConnection(_Following):
    """To the master."""


class FollowingTlsConnection(_Following, SSLConnection):
    """To the master, with TLS."""


def connection_class(kind: type[AbstractConnection], *, follows: bool) -> type[AbstractConnection]:
    """What stands in for one of redis-py's kinds of connection.

    Args:
        kind: the one that redis-py chose for the URL.
        follows: sentinels name the server.
    """
    if kind is UnixDomainSocketConnection:
        return SteadySocketConnection
    if issubclass(kind, SSLConnection):
        return FollowingTlsConnection if follows else SteadyTlsConnection
    return FollowingConnection if follows else SteadyConnection
