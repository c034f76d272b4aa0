"""Whoever takes a request over finds its job, wherever in the lanes of its model that lies."""

from dataclasses import replace

import pytest
from pydantic import SecretStr

from common.broker.broker import Broker
from common.signing import SigningKeys
from common.streams.job_search import PER_READ, JobSearch
from common.streams.jobs import JobLanes, LaneName, Ticket, near_lane
from common.streams.requests import SetAside
from common.types import Lane, NodeId, RequestId
from common.wire import Job
from tests.contract.story import LANES, MODEL, NODE, OTHER_MODEL, a_job, claim_all, publish, raw

R1 = RequestId("r1")
UNSIGNED = SigningKeys()
SIGNING = SigningKeys.parse(SecretStr("k1:0123456789abcdef"))


async def find(
    broker: Broker, hint: Ticket | None = None, signing: SigningKeys = UNSIGNED, near: NodeId | None = None
) -> tuple[Job, Ticket] | None:
    return await JobSearch(broker, signing).find(R1, a_job("r1").reply, MODEL, hint, near)


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BATCH])
async def test_it_is_found_in_any_lane_behind_others(lane: Lane, broker: Broker) -> None:
    for n in range(2 * PER_READ):
        await publish(broker, f"other-{n}", lane=lane)
    ticket = await publish(broker, "r1", lane=lane)
    await publish(broker, "last", lane=lane)
    assert await find(broker) == (a_job("r1"), ticket)
    assert await find(broker, ticket) == (a_job("r1"), ticket)


async def test_one_that_a_node_has_claimed_is_found_too(broker: Broker) -> None:
    ticket = await publish(broker, "r1")
    await claim_all(broker)
    assert await find(broker) == (a_job("r1"), ticket)


async def test_a_hint_that_is_too_old_does_not_mislead(broker: Broker) -> None:
    old = await publish(broker, "r1")
    await claim_all(broker)
    new = await JobLanes(broker).requeue(old, a_job("r1", attempt=2))
    assert await find(broker, old) == (a_job("r1", attempt=2), new)
    other = await publish(broker, "r2")
    assert await find(broker, other) == (a_job("r1", attempt=2), new)


async def test_one_that_was_set_aside_for_a_node_is_found_with_that_node_s_name(broker: Broker) -> None:
    await JobLanes(broker).ensure([near_lane(NODE)])
    ticket = await publish(broker, "r1", near=SetAside(NODE, 1))
    assert ticket.lane.near == NODE
    assert await find(broker) is None
    assert await find(broker, near=NODE) == await find(broker, ticket) == (a_job("r1"), ticket)


async def test_there_is_none_once_it_is_settled_nor_in_another_model_s_lanes(broker: Broker) -> None:
    assert await find(broker) is None
    await publish(broker, "r1", OTHER_MODEL)
    assert await find(broker) is None
    await raw(broker).delete(a_job("r1").reply)
    ticket = await publish(broker, "r1")
    await JobLanes(broker).ensure(LANES)
    await JobLanes(broker).settle(ticket, "r1")
    assert await find(broker, ticket) is None


async def test_what_no_hub_of_this_grid_has_written_is_not_taken_for_it(broker: Broker) -> None:
    """Else whoever can write into a lane would have it signed."""
    lane = LaneName(Lane.INTERACTIVE, MODEL)
    signed = a_job("r1").signed(SIGNING)
    forged = [a_job("r1"), replace(signed, body=b"other"), replace(signed, reply="ghub:reply:{x}:r1")]
    for job in forged:
        await raw(broker).xadd("ghub:{jobs}:interactive:" + MODEL, job.to_fields())
    assert await find(broker, signing=SIGNING) is None
    await raw(broker).xadd("ghub:{jobs}:interactive:" + MODEL, signed.to_fields())
    found = await find(broker, signing=SIGNING)
    assert found is not None
    assert (found[0], found[1].lane) == (signed, lane)
