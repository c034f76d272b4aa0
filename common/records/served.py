"""Which node has served a conversation lately, for all hubs: its engine may still hold what it has read of it.

A conversation goes by keyed digests of how it begins, and is forgotten after some minutes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.line import Command
from common.types import NodeId


class ServedBook:
    """Nodes by how the conversations begin that they served. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._line = broker.line
        self._keys = broker.keys

    async def find(self, digests: Sequence[str]) -> NodeId | None:
        """The node of the first of these that is known."""
        with broker_errors():
            found: Any = await self._line.say("MGET", *(self._keys.served(digest) for digest in digests))
        return next((NodeId(name.decode(errors="replace")) for name in found if name is not None), None)

    async def write(self, nodes: Mapping[str, NodeId], ttl_ms: int) -> None:
        """Remember these for so long."""
        commands: list[Command] = [
            ("SET", self._keys.served(digest), node, "PX", ttl_ms) for digest, node in nodes.items()
        ]
        with broker_errors():
            await self._line.ask(commands)
