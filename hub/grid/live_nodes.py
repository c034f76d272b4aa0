"""What this hub knows of every node, read again only where it may have changed.

An entry cannot vanish before its lease has run out unless its node leaves in order, and a node whose entry changes
says so behind it (`Changes`). So these are read: nodes that the changes name, nodes whose lease could have run out
since they were last read, nodes that are not there but may come back, and nodes of a version that tells of no changes.
"""

import asyncio
from collections.abc import Sequence

from common.broker.shapes import Fields
from common.records.grid import MAX_TIME_MS, PASSING, NodeRecord
from common.records.registry import Registry, record_of
from common.streams.changes import Changes
from common.types import NodeId

PROBE_S = 60.0
"""How long a node that was seen is looked for where the index has lost it: a broker that came back empty."""
INDEX_S = 5.0
"""Between two looks at the whole index; what comes into it is seen at each."""
NODES_PER_READ = 50
"""Entries are read so many at a time: where all of them have changed, a hub does nothing else for 2 to 3 ms."""
_PASSING = frozenset(name.encode() for name in PASSING)
MAX_TIME_DIGITS = len(str(MAX_TIME_MS))
INDEX_REACH_MS = 5000
"""How far the clocks of those who write the index may be behind this hub's."""


class LiveNodes:
    """The nodes whose entries live. Raises BrokerUnavailable or BrokerRefused from every method.

    `lease_ms`: how long an entry of this grid lives after a heartbeat; no node is believed to have a longer one.
    """

    def __init__(self, registry: Registry, changes: Changes, lease_ms: int) -> None:
        self._registry = registry
        self._changes = changes
        self._lease_ms = lease_ms
        self._due_at: dict[NodeId, float] = {}
        """When to read each node that there may be, on the event loop's clock."""
        self._seen_at: dict[NodeId, float] = {}
        self._index_seen_at = float("-inf")
        self._looked_ms = 0
        self.records: dict[NodeId, NodeRecord] = {}
        """What passes at each heartbeat (when, how busy, how far) is of the last look at all, or of the last change."""
        self.heard_at_ms: dict[NodeId, int] = {}
        """The last heartbeat of each of them that was seen, Unix ms."""
        self.changes = 0
        """Rises whenever `records` have changed."""
        self._lasting: dict[NodeId, Fields] = {}
        """Of each of them what its entry said, without what passes: comparing costs a tenth of reading."""

    def hear_again(self) -> None:
        """The broker may be another one now: what it tells of changes begins anew."""
        self._changes.hear_again()

    def doubt(self, node: NodeId) -> None:
        """Read this one at the next look, if there may be one of that name."""
        if node in self._due_at:
            self._due_at[node] = 0.0

    async def look(self, now_ms: int, *, at_all: bool = False) -> None:
        """Read those that may have changed, or every node there may be.

        `now_ms`: on the broker's clock.
        """
        if at_all or asyncio.get_running_loop().time() - self._index_seen_at >= INDEX_S:
            scores = await self._look_at_index(now_ms)
        else:
            scores = None
            for node in await self._registry.indexed_since(self._looked_ms - INDEX_REACH_MS):
                self._due_at.setdefault(node, 0.0)
        for node in await self._changes.news(now_ms):
            self.doubt(node)
        now = asyncio.get_running_loop().time()
        due = [node for node, due_at in self._due_at.items() if at_all or due_at <= now]
        for at in range(0, len(due), NODES_PER_READ):
            await self._read(due[at : at + NODES_PER_READ], now_ms, at_all=at_all)
        if scores is not None:
            await self._registry.keep_indexed(self.heard_at_ms, scores, now_ms)
        self._looked_ms = now_ms

    async def _look_at_index(self, now_ms: int) -> dict[NodeId, float]:
        """See which nodes there may be: those that the index names, and those that were there not long ago."""
        now = asyncio.get_running_loop().time()
        scores = await self._registry.indexed(now_ms)
        self._seen_at = {node: at for node, at in self._seen_at.items() if now - at < PROBE_S or node in self.records}
        self._due_at = {node: self._due_at.get(node, 0.0) for node in scores.keys() | self._seen_at.keys()}
        self._index_seen_at = now
        return scores

    async def _read(self, nodes: Sequence[NodeId], now_ms: int, *, at_all: bool) -> None:
        now = asyncio.get_running_loop().time()
        for node, entry in zip(nodes, await self._registry.entries(nodes), strict=True):
            lasting = {name: value for name, value in entry.items() if name not in _PASSING}
            if at_all or lasting != self._lasting.get(node) or not self._note_heartbeat(node, entry):
                self._take(node, entry, lasting)
            if node in self.records:
                self._seen_at[node] = now
                self._due_at[node] = now + self._known_for_s(node, now_ms)
            else:
                self._due_at[node] = 0.0

    def _note_heartbeat(self, node: NodeId, entry: Fields) -> bool:
        """Keep when a node was heard that has not changed; False where that cannot be read."""
        told = entry.get(b"heartbeat_at", b"")
        if not (told.isdigit() and len(told) <= MAX_TIME_DIGITS):
            return False
        self.heard_at_ms[node] = int(told)
        return True

    def _take(self, node: NodeId, entry: Fields, lasting: Fields) -> None:
        """Read an entry anew, or see that there is none."""
        record = record_of(node, entry)
        if record is not None:
            self.records[node], self._lasting[node] = record, lasting
            self.heard_at_ms[node] = record.heartbeat_at
        elif self.records.pop(node, None) is None:
            return
        else:
            del self._lasting[node], self.heard_at_ms[node]
        self.changes += 1

    def _known_for_s(self, node: NodeId, now_ms: int) -> float:
        """How long its entry lives at least, as far as is known; on the local clock, as the broker's may be set."""
        lease_ms = min(self.records[node].lease_ms, self._lease_ms)
        return (min(self.heard_at_ms[node], now_ms) + lease_ms - now_ms) / 1000 if lease_ms else 0.0
