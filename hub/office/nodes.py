"""What an operator does with nodes: drain, pause, resume, cut off."""

from typing import Any

import structlog

from common.orders import ControlEntry, Order
from common.records.registry import Registry
from common.streams.control import ControlStreams
from common.types import NodeId
from hub.access.members import Members
from hub.asking import asking_broker
from hub.grid.picture import unknown_node
from hub.settings import HubSettings

log = structlog.get_logger()


class NodeDesk:
    """Gives orders to nodes. Raises BrokerAway from every method."""

    def __init__(self, registry: Registry, control: ControlStreams, members: Members, settings: HubSettings) -> None:
        self._registry = registry
        self._control = control
        self._members = members
        self._retry_after_s = settings.retry_after_s

    async def order(self, node: str, order: Order) -> dict[str, Any]:
        """Give an order; how the node stood before it, for it obeys at its own next moment.

        Raises:
            NotFound: no such node lives.
        """
        with asking_broker("order", self._retry_after_s):
            record = await self._registry.node(NodeId(node))
            if record is None:
                raise unknown_node(node)
            await self._control.send(record.node, ControlEntry(order))
        log.info("node_ordered", node=node, op=order.value)
        return {"node": record.node, "state": record.state.value, "reasons": record.reasons, "ordered": order.value}

    async def cut_off(self, node: str) -> dict[str, Any]:
        """Take a registered node's access and its entry away; its jobs run elsewhere.

        `cut_off_broker` tells whether the broker itself knows it no more: only where hubs make the broker's users.

        Raises:
            NotFound: no such node has registered.
        """
        from_broker = await self._members.cut_off(NodeId(node))
        return {"node": node, "cut_off": True, "cut_off_broker": from_broker}

    async def acl(self, node: str) -> dict[str, Any]:
        """The line by which the broker's operator makes a member's user, where hubs don't do it.

        Raises:
            NotFound: no such node has registered.
        """
        return {"node": node, "acl": await self._members.acl_line(NodeId(node))}
