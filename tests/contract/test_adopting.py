"""Jobs that are a node's by name but do not run there: each is run, given back or settled, and none stays for ever."""

from collections.abc import AsyncIterator

import pytest

from common.broker.broker import Broker
from common.signing import SigningKeys
from common.streams.jobs import Delivery, JobLanes, lanes_of
from common.streams.replies import ReplyStreams
from common.types import ModelId
from common.wire import EntryId, Failure, ReplyEntry, Usage
from provider.jobs.consumer import Consumer
from provider.jobs.deliveries import Deliveries
from provider.jobs.former import FormerJobs
from provider.jobs.own_lanes import OwnLanes
from provider.membership.access import SharedAccess
from provider.replies.reopening import ReopenWindow
from provider.replies.writer import ReplyWriter
from tests.contract.story import (
    KEYS,
    LANES,
    MODEL,
    NODE,
    a_job,
    at_work,
    claim_all,
    entries_of,
    eventually,
    held_by,
    publish,
    raw,
)
from tests.contract.writers import a_runner
from tests.unit.provider_parts import Parts, model

REPLY = a_job().reply
CLAIM = ReplyEntry(claim=NODE)
BAD = Failure(400, "bad", "a bad request")
BROKEN = Failure(502, "broken", "it broke", retryable=True)


class Desk:
    """A node with one model, or none; what it is asked to run it refuses as an engine does that lacks the path."""

    def __init__(
        self, broker: Broker, models: tuple[ModelId, ...] = (MODEL,), access: SharedAccess | None = None
    ) -> None:
        parts = Parts().open()
        parts.engine.now = type(parts.engine.now)("told", "", models=tuple(model(one) for one in models), slots=2)
        job_lanes, replies = JobLanes(broker), ReplyStreams(broker)
        self.access = access or SharedAccess(job_lanes, lambda: list(models), SigningKeys())
        self.window = ReopenWindow(broker.reconnections)
        self.writer = ReplyWriter(replies, self.window, flush_gap_ms=2, broker_grace_s=5)
        deliveries = Deliveries(job_lanes, KEYS, self.access)
        self.slots = parts.slots
        self.runner = a_runner(broker, parts.machine, self.writer, NODE, access=self.access)
        self.lanes = OwnLanes(NODE, job_lanes, self.access)
        former = FormerJobs(self.lanes, replies, deliveries, self.runner, self.window)
        self.consumer = Consumer(self.lanes, parts.machine, self.runner, former)

    async def look(self) -> None:
        """One look at what is ours by name."""
        await self.access.refresh()
        await self.consumer.hand_back()


@pytest.fixture
async def desk(broker: Broker) -> AsyncIterator[Desk]:
    desk = Desk(broker)
    async with at_work(desk.writer.run()):
        yield desk


async def found(broker: Broker, *said: ReplyEntry) -> Delivery:
    """A job that a former process of this node's name was given, and what it said."""
    await publish(broker, "r1")
    (delivery,) = await claim_all(broker)
    entries = [(EntryId(1, n), entry) for n, entry in enumerate(said)]
    await ReplyStreams(broker).restore(REPLY, entries, 60_000)
    return delivery


async def ids_of(broker: Broker) -> list[str]:
    return [entry_id for entry_id, _ in await entries_of(broker, REPLY)]


async def test_one_that_was_begun_is_given_back(broker: Broker, desk: Desk) -> None:
    await found(broker, CLAIM, ReplyEntry(data=b"x"))
    await desk.look()
    assert (await entries_of(broker, REPLY))[-1] == ("1-2", ReplyEntry(release="restarted"))
    assert len(await held_by(broker, NODE)) == 1, "its hub requeues it"


@pytest.mark.parametrize("last", [ReplyEntry(end=Usage()), ReplyEntry(error=BAD)], ids=["end", "error"])
async def test_one_whose_answer_was_ended_is_settled(broker: Broker, desk: Desk, last: ReplyEntry) -> None:
    await found(broker, CLAIM, last)
    await desk.look()
    assert await held_by(broker, NODE) == []
    assert await ids_of(broker) == ["1-0", "1-1"]


@pytest.mark.parametrize(
    ("last", "reason"), [(ReplyEntry(release="gpu-busy"), "gpu-busy"), (ReplyEntry(error=BROKEN), "restarted")]
)
async def test_one_that_nobody_requeued_is_given_back_once_more(
    broker: Broker, desk: Desk, last: ReplyEntry, reason: str
) -> None:
    await found(broker, CLAIM, last)
    await desk.look()
    assert (await entries_of(broker, REPLY))[-1] == ("1-2", ReplyEntry(release=reason))


async def test_one_that_was_delivered_and_never_begun_is_run(broker: Broker, desk: Desk) -> None:
    await found(broker)
    await desk.look()

    async def has_run() -> bool:
        return desk.runner.outcomes == {"endpoint_not_supported": 1} and desk.slots.taken == 0

    await eventually(has_run, "it has run")
    assert await ids_of(broker) == ["1-0", "1-1"]


async def test_one_that_another_attempt_has_overtaken_is_settled(broker: Broker, desk: Desk) -> None:
    await found(broker, CLAIM)
    await ReplyStreams(broker).restore(REPLY, [(EntryId(2, 0), ReplyEntry(claim=NODE))], 60_000)
    await desk.look()
    assert await held_by(broker, NODE) == []


async def test_one_whose_request_is_over_is_settled(broker: Broker, desk: Desk) -> None:
    await found(broker, CLAIM)
    await raw(broker).delete(REPLY)
    await desk.look()
    assert await held_by(broker, NODE) == []


async def test_one_whose_reply_is_missing_just_after_the_broker_s_return_is_left_for_a_while(
    broker: Broker, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hub may be about to reopen it; if it does not, the next look settles the job."""
    await found(broker, CLAIM)
    await raw(broker).delete(REPLY)
    desk.window.note_trouble()
    await desk.look()
    assert len(await held_by(broker, NODE)) == 1
    monkeypatch.setattr("provider.replies.reopening.REOPEN_S", 0)
    desk.window.note_trouble()
    await desk.look()
    assert await held_by(broker, NODE) == []


@pytest.mark.parametrize("left", [(), (ModelId("other:1b"),)], ids=["no model", "another model"])
async def test_one_of_a_model_that_the_engine_has_lost_meanwhile_is_given_back(
    broker: Broker, left: tuple[ModelId, ...]
) -> None:
    await found(broker)
    desk = Desk(broker, left)
    async with at_work(desk.writer.run()):
        await desk.look()
    assert await entries_of(broker, REPLY) == [("1-0", ReplyEntry(release="model-gone"))]


async def test_lanes_of_others_are_looked_at_once(broker: Broker, desk: Desk) -> None:
    await desk.look()
    other = ModelId("other:1b")
    await publish(broker, "r2", other)
    await claim_all(broker, lanes_of([other]))
    await desk.look()
    assert len(await held_by(broker, NODE, lanes_of([other]))) == 1
    assert await held_by(broker, NODE, LANES) == []
