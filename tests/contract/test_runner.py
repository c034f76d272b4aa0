"""The slots of a provider on real brokers: whatever stops a job, its slot comes free and its lane forgets it."""

from collections.abc import AsyncIterator

import pytest

from common.broker.broker import Broker
from common.streams.jobs import Delivery, JobLanes
from common.streams.replies import ReplyStreams
from common.types import NodeId, RequestId
from common.wire import EntryId, Failure, ReplyEntry, Usage
from provider.engines.watch import EngineWatch
from provider.jobs.runner import Runner
from provider.machine import Machine
from provider.replies.reopening import ReopenWindow
from provider.replies.writer import ReplyWriter
from provider.slots import Slots
from tests.contract.story import (
    LANES,
    NODE,
    a_job,
    at_work,
    claim_all,
    entries_of,
    eventually,
    on_real_brokers,
    pending,
    publish,
    raw,
)
from tests.contract.writers import a_runner
from tests.unit.provider_parts import Parts

R1 = RequestId("r1")
REPLY = a_job().reply
OTHER = NodeId("node-2")


@pytest.fixture
def slots() -> Slots:
    return Slots(lambda: 1)


@pytest.fixture
async def runner(broker: Broker, slots: Slots) -> AsyncIterator[Runner]:
    """One slot, and an engine that was never found."""
    parts = Parts()
    never_found = EngineWatch(parts.settings.engine, 1, lambda: None)
    machine = Machine(parts.gate, slots, never_found, parts.gpu, parts.room)
    writer = ReplyWriter(ReplyStreams(broker), ReopenWindow(broker.reconnections), flush_gap_ms=2, broker_grace_s=5)
    runner = a_runner(broker, machine, writer, NodeId(NODE))
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
    assert runner.progress(0) == ()


async def test_a_job_cancelled_on_its_way_here_is_not_begun(broker: Broker, runner: Runner, slots: Slots) -> None:
    delivery = await delivered(broker)
    runner.cancel(R1)
    await runner.accept(delivery)
    assert runner.progress(0) == ()
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


async def second_attempt_after(broker: Broker, *said: ReplyEntry) -> Delivery:
    """A job just claimed whose first attempt, by another node, said this."""
    ticket = await publish(broker, R1)
    await claim_all(broker, node=OTHER)
    entries = [(EntryId(1, n), entry) for n, entry in enumerate([ReplyEntry(claim=OTHER), *said])]
    await ReplyStreams(broker).restore(REPLY, entries, 60_000)
    await JobLanes(broker).requeue(ticket, a_job(R1, attempt=2))
    (delivery,) = await claim_all(broker)
    return delivery


@pytest.mark.parametrize(
    "last", [ReplyEntry(data=b"x", end=Usage()), ReplyEntry(error=Failure(400, "bad", "no"))], ids=["end", "error"]
)
async def test_what_an_earlier_attempt_has_ended_is_settled_and_its_engine_not_asked(
    broker: Broker, runner: Runner, slots: Slots, last: ReplyEntry
) -> None:
    await runner.accept(await second_attempt_after(broker, last))
    await until_free(slots, broker)
    assert (await entries_of(broker, REPLY))[-1] == ("2-0", ReplyEntry(claim=NODE))
    assert runner.outcomes == {"over": 1}


@pytest.mark.parametrize(
    "last", [ReplyEntry(release="gpu-busy"), ReplyEntry(error=Failure(502, "broke", "it broke", retryable=True))]
)
async def test_what_an_earlier_attempt_left_to_be_tried_again_is_tried(
    broker: Broker, runner: Runner, last: ReplyEntry
) -> None:
    """Here the engine was never found, and that is what it comes to."""
    await runner.accept(await second_attempt_after(broker, last))

    async def is_tried() -> bool:
        entry_id, entry = (await entries_of(broker, REPLY))[-1]
        return entry_id == "2-1" and entry.error is not None and entry.error.code == "endpoint_not_supported"

    await eventually(is_tried, "it is tried")


@on_real_brokers
async def test_a_first_attempt_asks_the_broker_nothing(broker: Broker, runner: Runner, slots: Slots) -> None:
    delivery = await delivered(broker)
    warm_up = ReplyStreams(broker)
    before = await calls_of(broker, "xrange")
    await warm_up.fates([(REPLY, 1)])
    assert await calls_of(broker, "xrange") == before + 1, "such calls are counted"
    await runner.accept(delivery)

    async def has_ended() -> bool:
        return slots.free == 1

    await eventually(has_ended, "the job has ended")
    assert await calls_of(broker, "xrange") == before + 1


async def calls_of(broker: Broker, command: str) -> int:
    """How often the broker has done a command."""
    stats = await raw(broker).info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_a_job_whose_claim_another_node_holds_is_dropped_and_off_this_node_s_list(
    broker: Broker, runner: Runner, slots: Slots
) -> None:
    """A broker that has failed over may give out a job once more that runs already."""
    delivery = await delivered(broker)
    theirs = [(EntryId(1, 0), ReplyEntry(claim=OTHER))]
    await ReplyStreams(broker).restore(REPLY, theirs, 60_000)
    await runner.accept(delivery)
    await until_free(slots, broker)
    assert await entries_of(broker, REPLY) == [("1-0", ReplyEntry(claim=OTHER))]


async def test_a_job_whose_request_is_over_frees_its_slot_and_its_lane(
    broker: Broker, runner: Runner, slots: Slots
) -> None:
    delivery = await delivered(broker)
    await raw(broker).delete(REPLY)
    await runner.accept(delivery)
    await until_free(slots, broker)
    assert not await raw(broker).exists(REPLY)
