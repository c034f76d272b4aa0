"""Control streams: orders reach the node they are for, each once, and none from before its time."""

import asyncio

from common.broker.broker import Broker
from common.errors import WireError
from common.orders import ControlEntry, Order
from common.streams.control import ControlStreams
from common.types import NodeId, RequestId
from tests.contract.story import KEYS, NODE, raw

CANCEL = ControlEntry(Order.CANCEL, RequestId("r1"))
DRAIN = ControlEntry(Order.DRAIN)


class TestOrders:
    async def test_orders_come_in_order_and_once(self, broker: Broker) -> None:
        control = ControlStreams(broker)
        await control.send(NODE, CANCEL)
        await control.send(NODE, DRAIN)
        after, orders = await control.wait(NODE, b"0-0")
        assert orders == [CANCEL, DRAIN]
        await control.send(NODE, CANCEL)
        _, orders = await control.wait(NODE, after)
        assert orders == [CANCEL]

    async def test_they_are_for_one_node_only(self, broker: Broker) -> None:
        control = ControlStreams(broker)
        await control.send(NodeId("other"), DRAIN)
        await control.send(NODE, CANCEL)
        _, orders = await control.wait(NODE, b"0-0")
        assert orders == [CANCEL]

    async def test_who_waits_is_woken(self, broker: Broker) -> None:
        control = ControlStreams(broker)
        waiting = asyncio.create_task(control.wait(NODE, b"0-0"))
        await control.send(NODE, CANCEL)
        _, orders = await asyncio.wait_for(waiting, 5)
        assert orders == [CANCEL]

    async def test_a_new_process_takes_no_orders_that_were_given_to_the_last(self, broker: Broker) -> None:
        control = ControlStreams(broker)
        assert await control.newest(NODE) == b"0-0"
        await control.send(NODE, DRAIN)
        begin_after = await control.newest(NODE)
        await control.send(NODE, CANCEL)
        _, orders = await control.wait(NODE, begin_after)
        assert orders == [CANCEL]

    async def test_an_order_nobody_understands_is_told_in_its_place(self, broker: Broker) -> None:
        control = ControlStreams(broker)
        await control.send(NODE, CANCEL)
        await raw(broker).xadd(KEYS.control(NODE), {"op": "dance"})
        await raw(broker).xadd(KEYS.control(NODE), {"op": "cancel", "id": b"\xff"})
        await control.send(NODE, DRAIN)
        _, orders = await control.wait(NODE, b"0-0")
        assert [type(order) for order in orders] == [ControlEntry, WireError, WireError, ControlEntry]
        assert (orders[0], orders[-1]) == (CANCEL, DRAIN)


class TestLife:
    async def test_orders_that_nobody_reads_end(self, broker: Broker) -> None:
        await ControlStreams(broker).send(NODE, DRAIN)
        assert 0 < await raw(broker).pttl(KEYS.control(NODE)) <= 600_000

    async def test_they_are_bounded_in_number(self, broker: Broker) -> None:
        control = ControlStreams(broker)
        for _ in range(70):
            await asyncio.gather(*(control.send(NODE, DRAIN) for _ in range(20)))
        assert await raw(broker).xlen(KEYS.control(NODE)) < 1200
