"""The nodes' own lanes: a job that one node would do sooner than others lies there for a moment, and then in its lane.

A node has the conversation's beginning in its engine's memory, or the model loaded. Only it reads its own lane, so the
job is not handed to whoever has been waiting longest; if it doesn't take the job, whoever looks after that moves it.
"""

from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.scripts import Script
from common.keys import GROUP
from common.streams.jobs import INDEX_TTL_MS, NEAR, LaneName, Ticket, near_lane
from common.types import NodeId, RequestId

_MOVE = Script("move_job")
_DROP = Script("drop_near_lane")


class NearLanes:
    """What hubs do with these lanes. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._keys = broker.keys

    async def nodes(self) -> list[NodeId]:
        """Every node that has a lane of its own, in name order; it may be gone."""
        with broker_errors():
            names: Any = await self._commands.smembers(self._keys.lanes)
        parts = [name.decode(errors="replace").partition(":") for name in names]
        return sorted(NodeId(node) for lane, _, node in parts if lane == NEAR and node)

    async def move(self, ticket: Ticket, request: RequestId) -> Ticket | None:
        """Let a job go to its lane; None if its node has claimed it, or it is over. May be repeated."""
        lane = LaneName(ticket.lane.lane, ticket.lane.model)
        keys = [self._keys.lane(*ticket.lane), self._keys.lane(*lane), self._keys.waiting(*lane), self._keys.lanes]
        with broker_errors():
            entry = await _MOVE.run(self._line, keys, [GROUP, ticket.entry, request, INDEX_TTL_MS, str(lane)])
        return Ticket(lane, entry) if entry else None

    async def drop(self, node: NodeId) -> bool:
        """Take away the lane of a node that is gone; whether it held no job, so that this could be."""
        lane = near_lane(node)
        with broker_errors():
            return bool(await _DROP.run(self._line, [self._keys.lane(*lane), self._keys.lanes], [str(lane)]))
