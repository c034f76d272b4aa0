"""Control streams: orders from hubs to one provider."""

from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors, raise_first
from common.broker.line import Command
from common.broker.shapes import entries_of, flat
from common.errors import WireError
from common.orders import ControlEntry
from common.types import NodeId

MAXLEN = 1000
ORDERS_BLOCK_MS = 5000
"""Longer than other reads: whoever waits for orders has nothing else to look at in between."""
TTL_MS = 600_000
"""Ten minutes: an order that nobody read by then is of no use to anyone, ms."""


class ControlStreams:
    """Both ends of control streams. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._waiting = broker.blocking_line()
        self._keys = broker.keys

    def ordering(self, node: NodeId, order: ControlEntry) -> list[Command]:
        """The commands that give an order."""
        key = self._keys.control(node)
        add: Command = ("XADD", key, "MAXLEN", "~", MAXLEN, "*", *flat(order.to_fields()))
        return [add, ("PEXPIRE", key, TTL_MS)]

    async def send(self, node: NodeId, order: ControlEntry) -> None:
        """Give an order."""
        with broker_errors():
            raise_first(await self._line.ask(self.ordering(node, order)))

    async def newest(self, node: NodeId) -> bytes:
        """Id to read on from, so that a new process takes only orders that are meant for it."""
        with broker_errors():
            last: Any = await self._commands.xrevrange(self._keys.control(node), count=1)
        return last[0][0] if last else b"0-0"

    async def wait(self, node: NodeId, after: bytes) -> tuple[bytes, list[ControlEntry | WireError]]:
        """Block until orders come or time is up; the id to go on from, and the orders or why one is unreadable."""
        with broker_errors():
            answer = await self._waiting.say(
                "XREAD", "BLOCK", ORDERS_BLOCK_MS, "STREAMS", self._keys.control(node), after
            )
        orders: list[ControlEntry | WireError] = []
        for _, entries in entries_of(answer):
            for entry_id, fields in entries:
                after = entry_id
                try:
                    orders.append(ControlEntry.from_fields(fields or {}))
                except WireError as exc:
                    orders.append(exc)
        return after, orders
