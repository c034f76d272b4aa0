"""A broker that forgot its scripts (restart, failover, SCRIPT FLUSH) is taught them again by whoever comes first."""

from collections.abc import Awaitable, Callable

import pytest

from common.broker.broker import Broker
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes
from common.streams.requests import Published, QueueFull, Requests
from common.types import RequestId
from tests.contract.story import (
    HUB,
    LANES,
    NODE,
    TTLS,
    a_job,
    all_keys,
    claim_all,
    forget_scripts,
    publish,
    requests_of,
    try_publish,
)

R1 = RequestId("r1")


async def forget(broker: Broker) -> None:
    await forget_scripts(broker)


async def test_a_publish_adds_its_job_once(broker: Broker) -> None:
    await JobLanes(broker).ensure(LANES)
    await forget(broker)
    assert isinstance(await try_publish(broker, "r1"), Published)
    await forget(broker)
    assert isinstance(await try_publish(broker, "r2"), Published)
    assert requests_of(await claim_all(broker)) == ["r1", "r2"]


async def test_a_publish_that_is_refused_leaves_nothing(broker: Broker) -> None:
    await publish(broker, "r1", max_waiting=1)
    before = await all_keys(broker)
    await forget(broker)
    assert await try_publish(broker, "r2", max_waiting=1) == QueueFull(1)
    assert await all_keys(broker) == before


async def test_a_claim_takes_what_waits(broker: Broker) -> None:
    await publish(broker, "r1")
    await JobLanes(broker).ensure(LANES)
    await forget(broker)
    assert requests_of(await JobLanes(broker).claim(NODE, LANES, 1)) == ["r1"]


async def test_a_requeue_adds_one_attempt(broker: Broker) -> None:
    ticket = await publish(broker, "r1")
    await claim_all(broker)
    await forget(broker)
    assert await JobLanes(broker).requeue(ticket, a_job("r1", attempt=2)) is not None
    assert requests_of(await claim_all(broker)) == ["r1"]


async def test_calling_off_takes_back_a_waiting_job_and_tells_nobody(broker: Broker) -> None:
    ticket = await publish(broker, "r1")
    await forget(broker)
    await Requests(broker, TTLS, HUB).call_off(R1, a_job("r1").reply, ticket, None)
    assert await claim_all(broker) == []
    assert await ControlStreams(broker).newest(NODE) == b"0-0"


async def test_calling_off_a_claimed_job_tells_its_node_once(broker: Broker) -> None:
    ticket = await publish(broker, "r1")
    await claim_all(broker)
    await forget(broker)
    await Requests(broker, TTLS, HUB).call_off(R1, a_job("r1").reply, ticket, NODE)
    _, orders = await ControlStreams(broker).wait(NODE, b"0-0")
    assert len(orders) == 1
    assert a_job("r1").reply not in await all_keys(broker)


@pytest.mark.parametrize(
    "leave",
    [
        lambda lanes, ticket: lanes.settle(ticket),
        lambda lanes, ticket: lanes.withdraw(ticket, R1),
    ],
    ids=["settle", "withdraw"],
)
async def test_a_job_leaves_its_lane(broker: Broker, leave: Callable[[JobLanes, object], Awaitable[object]]) -> None:
    lanes = JobLanes(broker)
    ticket = await publish(broker, "r1")
    await forget(broker)
    await leave(lanes, ticket)
    assert await claim_all(broker) == []
