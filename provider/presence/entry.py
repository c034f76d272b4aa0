"""This node's entry in the registry: written whole once, then as far as it changes."""

import asyncio
from dataclasses import replace

import structlog

from common.errors import BrokerDenied, BrokerRefused
from common.records.grid import NodeRecord
from common.records.registry import RENEW_NODE_MS, Registry
from common.streams.changes import Changes
from common.types import NodeId

log = structlog.get_logger()

TELL_AGAIN_S = 60.0
"""How soon a broker that did not let this node tell of its changes is asked once more: the hub may be another now."""


class NodeEntry:
    """Keeps one node's entry alive, and tells hubs when it changes. Raises BrokerError from every method.

    A hub that hears of changes reads the entry again only then, or when its lease could have run out. Where the broker
    does not let this node tell (a hub of an earlier version made its user), the entry says so, and hubs look each time.
    """

    def __init__(self, node: NodeId, registry: Registry, changes: Changes, lease_ms: int) -> None:
        self._node = node
        self._registry = registry
        self._changes = changes
        self._lease_ms = lease_ms
        self._last: NodeRecord | None = None
        """As it stands in the broker; None where that is not known."""
        self._told: NodeRecord | None = None
        """The gist that hubs were last told of."""
        self._tells_from_s = float("-inf")
        self._indexed_at_ms = 0

    async def holder(self) -> NodeRecord | None:
        """What stands there now, by whomever it was written; None: nothing does."""
        return await self._registry.node(self._node)

    async def renew(self, record: NodeRecord, *, index: bool) -> None:
        """Write this for as long as the lease; without its place in the index where that is the hubs' to write."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._tells_from_s:
            record = replace(record, lease_ms=self._lease_ms)
        await self._write(record, index=index)
        if record.lease_ms and record.gist != self._told:
            try:
                await self._changes.tell(self._node)
                self._told = record.gist
            except (BrokerDenied, BrokerRefused) as exc:
                log.info("changes_untold", error=str(exc), hint="hubs look at this node's entry each second instead")
                self._tells_from_s, self._told = loop.time() + TELL_AGAIN_S, None
                await self._write(replace(record, lease_ms=0), index=index)

    async def remove(self, *, index: bool) -> None:
        """Take it out at once."""
        self._last = None
        await self._registry.remove_node(self._node, index=index)
        if self._told is not None:
            await self._changes.tell(self._node)

    async def _write(self, record: NodeRecord, *, index: bool) -> None:
        last, self._last = self._last, None
        if last is None or not await self._renewed(record, last):
            self._told = None
            await self._registry.write_node(record, self._lease_ms, index=index)
            self._indexed_at_ms = record.heartbeat_at
        elif index and record.heartbeat_at - self._indexed_at_ms > RENEW_NODE_MS:
            await self._registry.index_nodes({self._node: record.heartbeat_at})
            self._indexed_at_ms = record.heartbeat_at
        self._last = record

    async def _renewed(self, record: NodeRecord, last: NodeRecord) -> bool:
        """Write what has changed; False if the entry was not there any more, and is not whole now."""
        old = last.to_hash()
        changed = {name: value for name, value in record.to_hash().items() if value != old[name]}
        return await self._registry.renew_node(
            self._node, {**changed, "heartbeat_at": record.heartbeat_at}, self._lease_ms
        )
