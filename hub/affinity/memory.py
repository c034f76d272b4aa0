"""Remembers for some minutes which node served a conversation, here and, for the other hubs, in the broker."""

import asyncio
from collections import OrderedDict

import structlog

from common.errors import BrokerError
from common.records.served import ServedBook
from common.types import NodeId
from hub.affinity.opening import Opening

log = structlog.get_logger()

MOST = 100_000
"""So many beginnings are remembered here: some 30 MB."""
GATHER_S = 0.02
MOST_BEHIND = 10_000
"""So many are kept for a broker that is away; others are let go: they are but hints."""


class Memory:
    """Nodes by what they served. `ttl_s`: how long they are remembered."""

    def __init__(self, book: ServedBook, ttl_s: float) -> None:
        self._book = book
        self._ttl_s = ttl_s
        self._nodes: OrderedDict[str, tuple[NodeId, float]] = OrderedDict()
        self._unwritten: dict[str, NodeId] = {}
        self._rung = asyncio.Event()

    async def find(self, opening: Opening) -> NodeId | None:
        """Who served the longest beginning of a conversation that this hub knows of; else of those the broker knows."""
        now = asyncio.get_running_loop().time()
        for mark in reversed(opening.marks):
            node, until = self._nodes.get(mark, (None, 0.0))
            if node is not None and until > now:
                return node
        try:
            return await self._book.find(opening.to_ask())
        except BrokerError:  # whoever publishes next hears it, too
            return None

    def served(self, opening: Opening, node: NodeId) -> None:
        """A node has read this conversation."""
        until = asyncio.get_running_loop().time() + self._ttl_s
        for mark in opening.to_keep():
            self._nodes[mark] = node, until
            self._nodes.move_to_end(mark)
            if len(self._unwritten) < MOST_BEHIND:
                self._unwritten[mark] = node
        while len(self._nodes) > MOST:
            self._nodes.popitem(last=False)
        self._rung.set()

    async def run(self) -> None:
        """Write what is new for the other hubs, off the requests' own path, until cancelled."""
        while True:
            await self._rung.wait()
            await asyncio.sleep(GATHER_S)
            self._rung.clear()
            nodes, self._unwritten = self._unwritten, {}
            try:
                await self._book.write(nodes, int(self._ttl_s * 1000))
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="affinity", error=str(exc))
