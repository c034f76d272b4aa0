"""A node follows its hub's orders on, whatever its broker has forgotten of them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from common.broker.broker import Broker, connect
from common.orders import ControlEntry, Order
from common.reasons import Reason
from common.streams.control import ControlStreams
from provider.gate.gate import Gate
from provider.jobs.runner import Runner
from provider.presence.control import Control
from tests.contract.story import KEYS, NODE, at_work, eventually, raw, until_blocked
from tests.support.brokers import BrokerProcess

DRAIN = ControlEntry(Order.DRAIN)
FAR_AHEAD = f"{2**45}-0"
"""The id of an order that a broker gave whose clock was centuries ahead."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker that is empty when it starts again."""
    server = BrokerProcess("valkey", tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def broker(server: BrokerProcess) -> AsyncIterator[Broker]:
    broker = connect(server.url, prefix="ghub:", client_name="contract")
    yield broker
    await broker.aclose()


async def test_orders_of_a_broker_that_came_back_empty_with_a_clock_that_is_behind_are_followed(
    server: BrokerProcess, broker: Broker
) -> None:
    gate, streams = Gate(), ControlStreams(broker)
    no_jobs = cast(Runner, None)  # a drain asks nothing of it
    await raw(broker).xadd(KEYS.control(NODE), {"op": "resume"}, id=FAR_AHEAD)
    async with at_work(Control(NODE, streams, gate, no_jobs).run(await streams.newest(NODE))):
        await until_blocked(broker)
        server.kill()
        await asyncio.to_thread(server.start)
        await broker.commands.connection_pool.disconnect()
        await until_blocked(broker)
        await streams.send(NODE, DRAIN)

        async def is_followed() -> bool:
            return gate.reasons == (Reason.DRAINING,)

        await eventually(is_followed, "the gate is closed")
