"""The slots of a provider on real brokers: whatever stops a job, its slot comes free and its lane forgets it."""

from collections.abc import AsyncIterator

import pytest

from common.broker import Broker
from common.clock import BrokerClock
from common.signing import SigningKeys
from common.streams.jobs import Delivery, JobLanes
from common.streams.replies import ReplyStreams
from common.types import NodeId, RequestId
from provider.access import SharedAccess
from provider.deliveries import Deliveries
from provider.engines.watch import EngineWatch
from provider.runner import Runner
from provider.settings import ProviderSettings
from provider.slots import Slots
from provider.writer import ReplyWriter
from tests.contract.story import (
    KEYS,
    LANES,
    MODEL,
    NODE,
    at_work,
    claim_all,
    eventually,
    pending,
    publish,
)

R1 = RequestId("r1")


@pytest.fixture
def slots() -> Slots:
    return Slots(lambda: 1)


@pytest.fixture
async def runner(broker: Broker, slots: Slots) -> AsyncIterator[Runner]:
    """One slot, and an engine that was never found."""
    settings = ProviderSettings(name="node-1", slots=1)
    replies, lanes = ReplyStreams(broker), JobLanes(broker)
    writer = ReplyWriter(replies, flush_gap_ms=2, broker_grace_s=5)
    engine = EngineWatch(settings.engine, settings.slots, lambda _: None)
    runner = Runner(
        node=NodeId(NODE),
        settings=settings,
        keys=KEYS,
        clock=BrokerClock(broker),
        deliveries=Deliveries(lanes, KEYS, SharedAccess(lanes, lambda: [MODEL], SigningKeys())),
        replies=replies,
        writer=writer,
        engine=engine,
        slots=slots,
        on_full=lambda _: None,
    )
    async with at_work(writer.run()):
        yield runner


async def delivered(broker: Broker) -> Delivery:
    """A job that was just claimed."""
    await publish(broker, R1)
    (delivery,) = await claim_all(broker)
    return delivery


async def until_free(slots: Slots, broker: Broker) -> None:
    """Wait until its slot is free and nothing is pending."""

    async def is_free() -> bool:
        return slots.free == 1 and sum([await pending(broker, lane) for lane in LANES]) == 0

    await eventually(is_free, "the slot and the lane are free")


async def test_a_job_cancelled_before_its_first_step_frees_its_slot(
    broker: Broker, runner: Runner, slots: Slots
) -> None:
    await runner.accept(await delivered(broker))
    runner.cancel(R1)
    await until_free(slots, broker)
    assert runner.requests == ()


async def test_a_job_cancelled_on_its_way_here_is_not_begun(broker: Broker, runner: Runner, slots: Slots) -> None:
    delivery = await delivered(broker)
    runner.cancel(R1)
    await runner.accept(delivery)
    assert runner.requests == ()
    await until_free(slots, broker)


async def test_a_job_given_back_to_a_hub_whose_client_has_left_is_off_its_lane_at_once(
    broker: Broker, runner: Runner, slots: Slots
) -> None:
    """The hub finds it claimed and orders this node to cancel it; nobody else would take it off."""
    delivery = await delivered(broker)
    await runner.give_back(delivery, "gpu-busy")
    assert sum([await pending(broker, lane) for lane in LANES]) == 1
    assert runner.has(delivery.ticket), "its hub has yet to requeue it"
    runner.cancel(R1)
    await until_free(slots, broker)
