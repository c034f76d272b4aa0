"""Jobs as a former version published them, on a broker; and what becomes of one that only a later version can read."""

from typing import Any

import pytest

from common.broker.broker import Broker
from common.keys import GROUP
from common.streams.jobs import JobLanes, LaneName, lanes_of
from common.types import Lane, ModelId, NodeId
from provider.jobs.deliveries import Deliveries
from provider.membership.access import SharedAccess
from tests.contract.story import KEYS, pending, raw
from tests.support import golden

NODE = NodeId("desk")


@pytest.fixture(params=["0.1.0", "now"])
def job(request: pytest.FixtureRequest) -> dict[bytes, bytes]:
    """The fields of a job, byte for byte."""
    return golden.raw(golden.read(request.param)["jobs"][0])


def lane_of(job: dict[bytes, bytes]) -> LaneName:
    return LaneName(Lane.INTERACTIVE, ModelId(job[b"model"].decode()))


async def taken(broker: Broker, job: dict[bytes, bytes]) -> Any:
    """What today's provider makes of a job in its lane."""
    lane, lanes = lane_of(job), JobLanes(broker)
    await raw(broker).xgroup_create(KEYS.lane(*lane), GROUP, id="0", mkstream=True)
    await raw(broker).xadd(KEYS.lane(*lane), {**job})
    await lanes.ensure(lanes_of([lane.model]))
    (delivery,) = await lanes.claim(NODE, lanes_of([lane.model]), 4)
    deliveries = Deliveries(lanes, KEYS, SharedAccess(lanes, lambda: [lane.model], golden.KEYS))
    return await deliveries.verified(delivery)


async def test_a_job_of_a_neighbouring_version_is_run(broker: Broker, job: dict[bytes, bytes]) -> None:
    found = await taken(broker, {**job, b"later": b"1"})
    assert found is not None
    assert found.body == golden.JOBS[0].body
    assert await pending(broker, lane_of(job)) == 1


async def test_a_job_of_a_later_wire_is_buried_with_the_reason(broker: Broker, job: dict[bytes, bytes]) -> None:
    assert await taken(broker, {**job, b"v": b"2"}) is None
    assert await pending(broker, lane_of(job)) == 0
    assert await raw(broker).xlen(KEYS.lane(*lane_of(job))) == 0
    ((_, letter),) = await raw(broker).xrange(KEYS.dead)
    assert b"wire version b'2', this side speaks b'1'" in letter[b"reason"]
    assert letter[b"id"] == job[b"id"]
    assert b"body" not in letter
