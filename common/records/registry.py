"""The registry: who is there, and how they last said they stood.

Nodes and hubs are hashes that live three heartbeats: a crash cleans up after itself. A health report outlives its node
by far, so that one can see how a lost machine stood.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import Fields, hashes_of
from common.records.grid import HubRecord, NodeRecord
from common.report import HealthReport, StoredReport
from common.streams.dead import DEAD_TTL_MS
from common.types import HubId, NodeId

INDEX_TTL_MS = 86_400_000
FORGET_NODE_MS = 60_000
"""How long the index names a node after its last heartbeat, ms."""
RENEW_NODE_MS = 15_000
"""How late the index may be about a live node, ms: one with a broker user of its own doesn't write there itself."""
MOST_REPORTS = 1000
"""So many nodes, the last to report, are in the index of reports: whoever holds a provider's token can invent names."""


def record_of(name: NodeId, raw: Mapping[Any, Any]) -> NodeRecord | None:
    """What stands under a node's name; None if it speaks for another: whoever may write one entry has that one only."""
    record = NodeRecord.from_hash(raw)
    return record if record is not None and record.node == name else None


def _report_of(text: bytes) -> StoredReport | None:
    try:
        return StoredReport.model_validate_json(text)
    except ValidationError:  # of another version
        return None


class Registry:
    """Who is there. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._keys = broker.keys

    async def write_node(self, record: NodeRecord, ttl_ms: int, *, index: bool = True) -> None:
        """Renew a node's entry; without its place in the index where that is the hubs' to write."""
        key = self._keys.node(record.node)
        pipe = self._commands.pipeline(transaction=False)
        pipe.hset(key, mapping=record.to_hash())
        pipe.pexpire(key, ttl_ms)
        if index:
            pipe.zadd(self._keys.nodes, {record.node: record.heartbeat_at})
            pipe.pexpire(self._keys.nodes, INDEX_TTL_MS)
        with broker_errors():
            await pipe.execute()

    async def renew_node(self, node: NodeId, fields: Mapping[Any, Any], ttl_ms: int) -> bool:
        """Renew a node's entry by what has changed of it; whether it was still there, whole otherwise it is not now."""
        key = self._keys.node(node)
        pipe = self._commands.pipeline(transaction=False)
        pipe.hset(key, mapping={**fields})
        pipe.pexpire(key, ttl_ms)
        with broker_errors():
            fields_added, _ = await pipe.execute()
        return bool(fields_added == 0)

    async def remove_node(self, node: NodeId, *, index: bool = True) -> None:
        """Take a node out at once, as a provider does that stops in order."""
        pipe = self._commands.pipeline(transaction=False)
        pipe.delete(self._keys.node(node))
        if index:
            pipe.zrem(self._keys.nodes, node)
        with broker_errors():
            await pipe.execute()

    async def node(self, node: NodeId) -> NodeRecord | None:
        """A live node's entry."""
        with broker_errors():
            return record_of(node, await self._commands.hgetall(self._keys.node(node)))

    async def indexed(self, now_ms: int) -> dict[NodeId, float]:
        """The names in the index, and when each was last heard, as far as it knows; names long gone are swept."""
        with broker_errors():
            pipe = self._commands.pipeline(transaction=False)
            pipe.zremrangebyscore(self._keys.nodes, "-inf", now_ms - FORGET_NODE_MS)
            pipe.zrange(self._keys.nodes, 0, -1, withscores=True)
            _, indexed = await pipe.execute()
        return {NodeId(name.decode(errors="replace")): score for name, score in indexed}

    async def indexed_since(self, at_ms: int) -> list[NodeId]:
        """The names that came into the index, or were renewed there, at this time or later."""
        with broker_errors():
            names: Any = await self._commands.zrangebyscore(self._keys.nodes, at_ms, "+inf")
        return [NodeId(name.decode(errors="replace")) for name in names]

    async def entries(self, nodes: Sequence[NodeId]) -> list[Fields]:
        """The hashes of these nodes, in this order, as they stand there; empty for one that is gone."""
        with broker_errors():
            return await hashes_of(self._line, [self._keys.node(node) for node in nodes])

    async def keep_indexed(self, heard: Mapping[NodeId, int], scores: Mapping[NodeId, float], now_ms: int) -> None:
        """Renew the places of nodes that live in the index, which stood there with these scores, where they are late.

        `heard`: the last heartbeat of each, Unix ms.
        """
        beats = {node: min(at, now_ms) for node, at in heard.items()}
        late = {node: at for node, at in beats.items() if scores.get(node, 0) < at - RENEW_NODE_MS}
        if late:
            await self.index_nodes(late)

    async def index_nodes(self, heartbeats: Mapping[NodeId, int]) -> None:
        """Have hubs look at these nodes; with when each was last heard, Unix ms."""
        pipe = self._commands.pipeline(transaction=False)
        scores: dict[Any, Any] = {**heartbeats}
        pipe.zadd(self._keys.nodes, scores)
        pipe.pexpire(self._keys.nodes, INDEX_TTL_MS)
        with broker_errors():
            await pipe.execute()

    async def revoked(self) -> frozenset[NodeId]:
        """The nodes that were cut off and have not registered since."""
        with broker_errors():
            names: Any = await self._commands.zrange(self._keys.revoked, 0, -1)
        return frozenset(NodeId(name.decode(errors="replace")) for name in names)

    async def write_report(self, report: HealthReport, now_ms: int, ttl_ms: int) -> None:
        """Keep a node's report in place of its former one; of two that arrive at once the last written stays."""
        stored = StoredReport.model_validate({**report.model_dump(), "reported_at": now_ms})
        pipe = self._commands.pipeline(transaction=False)
        pipe.set(self._keys.report(NodeId(report.node)), stored.model_dump_json(), px=ttl_ms)
        pipe.zadd(self._keys.reports, {report.node: now_ms})
        pipe.zremrangebyscore(self._keys.reports, "-inf", now_ms - ttl_ms)
        pipe.zremrangebyrank(self._keys.reports, 0, -MOST_REPORTS - 1)
        pipe.pexpire(self._keys.reports, ttl_ms)
        with broker_errors():
            await pipe.execute()

    async def reports(self) -> dict[NodeId, StoredReport]:
        """The latest report of every node, there or gone; what cannot be read here is passed over."""
        with broker_errors():
            names: Any = await self._commands.zrange(self._keys.reports, 0, -1)
            pipe = self._commands.pipeline(transaction=False)
            for name in names:
                pipe.get(self._keys.report(NodeId(name.decode(errors="replace"))))
            texts = await pipe.execute()
        found = [report for text in texts if text is not None and (report := _report_of(text)) is not None]
        return {NodeId(report.node): report for report in found}

    async def write_hub(self, record: HubRecord, ttl_ms: int) -> bool:
        """Renew a hub's entry; whether it was still there."""
        key = self._keys.hub(record.hub)
        pipe = self._commands.pipeline(transaction=False)
        pipe.hset(key, mapping={name: getattr(record, name) for name in record.__slots__})
        pipe.pexpire(key, ttl_ms)
        pipe.zadd(self._keys.hubs, {record.hub: record.heartbeat_at})
        pipe.pexpire(self._keys.hubs, INDEX_TTL_MS)
        pipe.pexpire(self._keys.dead, DEAD_TTL_MS)  # providers may add to these, and not say how long they live
        pipe.pexpire(self._keys.changes, INDEX_TTL_MS)
        with broker_errors():
            fields_added, *_ = await pipe.execute()
        return bool(fields_added == 0)

    async def live_hubs(self) -> list[HubRecord]:
        """Every hub whose entry lives, in name order.

        The index is not swept here: it names dead hubs until somebody looks after their requests (`Leftovers`).
        """
        with broker_errors():
            names: Any = await self._commands.zrange(self._keys.hubs, 0, -1)
            hubs = [HubId(name.decode(errors="replace")) for name in sorted(names)]
            hashes = await hashes_of(self._line, [self._keys.hub(hub) for hub in hubs])
        return [record for raw in hashes if (record := HubRecord.from_hash(raw)) is not None]

    async def remove_hub(self, hub: HubId) -> None:
        """Take a hub out at once; its doorbell goes with it. Requests that it leaves are found by its name."""
        with broker_errors():
            await self._commands.delete(self._keys.hub(hub))
            await self._commands.delete(self._keys.doorbell(hub))
            if not await self._commands.exists(self._keys.open_requests(hub)):
                await self._commands.zrem(self._keys.hubs, hub)
