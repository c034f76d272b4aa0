"""What the reaper takes out of lanes: jobs of nodes that are gone, jobs that nobody waits for; and what it leaves."""

import time
from dataclasses import replace

import pytest

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.streams.jobs import JobLanes, LaneName, Ticket
from common.streams.lane_looks import LaneLooks
from common.streams.queues import Queues
from common.streams.replies import ReplyStreams, ReplyWrite
from common.types import Lane, NodeId, RequestId
from common.wire import EntryId, ReplyEntry
from hub.recovery import lane_sweep
from hub.recovery.complaints import Complaints
from hub.recovery.lane_sweep import OVERDUE_MS, LaneSweep
from tests.contract.around import ME, backstage
from tests.contract.story import HUB, KEYS, LANES, MODEL, NODE, a_job, claim_all, publish, raw
from tests.contract.test_registry import RECORD

LANE = LaneName(Lane.INTERACTIVE, MODEL)
RETRY = LaneName(Lane.RETRY, MODEL)
R1 = RequestId("r1")


async def sweep_of(broker: Broker) -> LaneSweep:
    """A hub's sweep, for which any claim is an old one; it sees the nodes that are there now."""
    stage = backstage(broker, ME)
    await stage.clock.sync()
    await stage.view.refresh()
    return LaneSweep(stage, LaneLooks(broker), RequestBook(broker), Complaints(), node_lease_ms=0)


async def node_lives(broker: Broker) -> None:
    await Registry(broker).write_node(replace(RECORD, heartbeat_at=int(time.time() * 1000)), 60_000)


async def say(broker: Broker, entry_id: EntryId, entry: ReplyEntry) -> None:
    await ReplyStreams(broker).write([ReplyWrite(a_job("r1").reply, KEYS.doorbell(HUB), R1, entry_id, entry)])


async def entries(broker: Broker, lane: LaneName = LANE) -> int:
    return int(await raw(broker).xlen(KEYS.lane(*lane)))


async def lose_reply(broker: Broker, name: str = "r1") -> None:
    await raw(broker).delete(a_job(name).reply)


class TestJobsOfNodesThatAreGone:
    async def test_one_whose_reply_is_gone_too_is_settled(self, broker: Broker) -> None:
        await publish(broker)
        await claim_all(broker)
        await lose_reply(broker)
        await (await sweep_of(broker)).look()
        assert await entries(broker) == 0

    async def test_one_that_its_hub_waits_for_is_left_to_that_hub(self, broker: Broker) -> None:
        await publish(broker)
        await claim_all(broker)
        await say(broker, EntryId(1, 0), ReplyEntry(claim=NODE))
        await (await sweep_of(broker)).look()
        assert await entries(broker) == 1

    async def test_one_that_a_node_holds_which_lives_is_that_node_s(self, broker: Broker) -> None:
        await publish(broker)
        await claim_all(broker)
        await lose_reply(broker)
        await node_lives(broker)
        await (await sweep_of(broker)).look()
        assert await entries(broker) == 1

    async def test_one_that_was_claimed_just_now_is_left_alone(self, broker: Broker) -> None:
        """Its node may be new, and not stand in the registry yet."""
        await publish(broker)
        await claim_all(broker)
        await lose_reply(broker)
        sweep = await sweep_of(broker)
        sweep._node_lease_ms = 60_000
        await sweep.look()
        assert await entries(broker) == 1

    async def test_one_that_a_later_attempt_has_overtaken_is_settled_and_that_one_keeps_its_place(
        self, broker: Broker
    ) -> None:
        lanes, first = JobLanes(broker), await publish(broker)
        await claim_all(broker)
        old = await lanes.requeue(first, a_job("r1", attempt=2))
        await claim_all(broker)
        await say(broker, EntryId(3, 0), ReplyEntry(claim=NODE))
        await lanes.requeue(Ticket(RETRY, b"1-1"), a_job("r1", attempt=3))  # the broker had lost where the last one lay
        await (await sweep_of(broker)).look()
        assert await Queues(broker).places([(R1, RETRY)]) == [0]
        assert (await lanes.fetch(old)).fields is None
        assert await entries(broker, RETRY) == 1

    @pytest.mark.parametrize(("status", "left"), [("done", 0), ("failed", 0), ("streaming", 1), ("dancing", 1)])
    async def test_one_whose_request_is_over_is_settled(self, broker: Broker, status: str, left: int) -> None:
        """Its answer may stay for a while for who comes back."""
        await publish(broker)
        await claim_all(broker)
        await say(broker, EntryId(1, 0), ReplyEntry(claim=NODE))
        await raw(broker).hset(KEYS.request(R1), "status", status)
        await (await sweep_of(broker)).look()
        assert await entries(broker) == left

    async def test_one_that_was_trimmed_away_is_settled(self, broker: Broker) -> None:
        ticket = await publish(broker)
        await claim_all(broker)
        await raw(broker).xdel(KEYS.lane(*LANE), ticket.entry)
        await (await sweep_of(broker)).look()
        assert (await raw(broker).xpending(KEYS.lane(*LANE), "providers"))["pending"] == 0


class TestJobsThatWait:
    async def test_one_whose_reply_is_gone_is_withdrawn_and_leaves_the_queue(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await publish(broker, "r2")
        await lose_reply(broker, "r1")
        await (await sweep_of(broker)).look()
        assert await entries(broker) == 1
        assert await Queues(broker).places([(R1, LANE), (RequestId("r2"), LANE)]) == [None, 0]

    @pytest.mark.parametrize(("late_ms", "left"), [(-60_000, 1), (OVERDUE_MS // 2, 1), (OVERDUE_MS + 1000, 0)])
    async def test_one_is_withdrawn_when_its_deadline_is_well_past(
        self, broker: Broker, late_ms: int, left: int
    ) -> None:
        clock = BrokerClock(broker)
        await clock.sync()
        await publish(broker, "r1")
        job = replace(a_job("r1"), deadline_ms=clock.now_ms() - late_ms)
        await JobLanes(broker).requeue(Ticket(LANE, b"1-1"), job)
        await (await sweep_of(broker)).look()
        assert await entries(broker, RETRY) == left

    async def test_nonsense_is_left_while_it_has_a_reply(self, broker: Broker) -> None:
        await publish(broker, "r1")
        for fields in ({"id": "r1", "reply": a_job("r1").reply, "deadline": "soon"}, {"odd": "1"}):
            await raw(broker).xadd(KEYS.lane(*LANE), fields)
        await (await sweep_of(broker)).look()
        assert await entries(broker) == 2

    async def test_a_long_queue_is_looked_at_bit_by_bit(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lane_sweep, "JOBS_PER_LOOK", 2)
        for number in range(5):
            await publish(broker, f"r{number}")
        await claim_all(broker)
        await node_lives(broker)
        for number in range(5, 12):
            await publish(broker, f"r{number}")
        for number in (0, 11):
            await lose_reply(broker, f"r{number}")
        sweep = await sweep_of(broker)
        for _ in range(3):
            await sweep.look()
            assert await entries(broker) == 12
        await sweep.look()
        assert await entries(broker) == 11
        await lose_reply(broker, "r5")
        await sweep.look()
        assert await entries(broker) == 10, "it begins anew behind the last one"

    async def test_many_lanes_are_looked_at_by_turns(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lane_sweep, "LANES_PER_LOOK", 1)
        await JobLanes(broker).ensure(LANES)
        await publish(broker, "r1")
        await lose_reply(broker)
        sweep = await sweep_of(broker)
        for _ in LANES:
            await sweep.look()
        assert await entries(broker) == 0


async def test_what_is_no_lane_keeps_no_other_lane_unswept(broker: Broker) -> None:
    await publish(broker, "r1")
    await lose_reply(broker)
    await raw(broker).set(KEYS.lane(Lane.BATCH, MODEL), "text")
    await raw(broker).sadd(KEYS.lanes, "batch:tiny:1b", "nonsense", b"\xff")
    try:
        await (await sweep_of(broker)).look()
    except UnicodeDecodeError:
        pytest.fail("a name that is no text")
    assert await entries(broker) == 0


async def test_a_lane_forgets_nodes_that_were_not_there_for_long(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_sweep, "FORGET_NODE_MS", -1)
    gone, holder = NodeId("gone"), NodeId("holder")
    await JobLanes(broker).ensure(LANES)
    for node in (NODE, gone, holder):
        await publish(broker, node)
        (delivery,) = await JobLanes(broker).claim(node, LANES, 5)
        if node != holder:
            await JobLanes(broker).settle(delivery.ticket, node)
    await node_lives(broker)
    await (await sweep_of(broker)).look()
    assert {one.node for one in await LaneLooks(broker).consumers(LANE)} == {NODE, holder}
