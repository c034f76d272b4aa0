"""Connections that were made again: whoever rests on what the broker said yes to looks whether it still knows."""

from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from redis import exceptions as rx
from redis.asyncio.connection import AbstractConnection

from common.broker.cluster_line import ClusterLine


class Reconnections(Protocol):
    """Tells how often a connection that had been lost was made again: the broker may have forgotten things since."""

    @property
    def count(self) -> int:
        """How often so far."""


class CountedReconnections(Reconnections):
    """Those of a client's pool."""

    count = 0

    def __init__(self) -> None:
        self._seen: WeakSet[AbstractConnection] = WeakSet()
        self._place: object = None

    async def note(self, connection: AbstractConnection) -> None:
        """A connection of the pool is made; redis-py lets us greet the broker in its stead."""
        await greet(connection)
        place = (getattr(connection, "host", None), getattr(connection, "port", None))
        # With sentinels even a connection that is new can lead to a server that never heard of what was written.
        if connection in self._seen or self._place not in (None, place):
            self.count += 1
        self._seen.add(connection)
        self._place = place


class ClusterReconnections(Reconnections):
    """Those of a line to a cluster."""

    def __init__(self, line: ClusterLine) -> None:
        self._line = line

    @property
    def count(self) -> int:
        """How often so far."""
        return self._line.losses


async def greet(connection: AbstractConnection) -> None:
    """Say who we are. Where nobody may name a connection, as with some managed brokers, it has no name."""
    name, connection.client_name = connection.client_name, None
    try:
        await connection.on_connect()
    finally:
        connection.client_name = name
    if name:
        await connection.send_command("CLIENT", "SETNAME", name)
        with suppress(rx.ResponseError):
            await connection.read_response()
