"""Lanes of the nodes' own: a job set aside for one node is that node's for a moment, and then anybody's."""

import asyncio
import time
from dataclasses import replace

import pytest

from common.broker.broker import Broker
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.records.served import ServedBook
from common.streams.control import ControlStreams
from common.streams.jobs import Delivery, JobLanes, LaneName, Ticket, lanes_of, near_lane
from common.streams.lane_looks import LaneLooks
from common.streams.near_lanes import NearLanes
from common.streams.queues import Queues
from common.streams.requests import Published, Requests, SetAside
from common.types import Lane, ModelId, NodeId, RequestId
from common.wire import Job
from hub.recovery import lane_sweep
from hub.recovery.complaints import Complaints
from hub.recovery.lane_sweep import LaneSweep
from tests.contract.around import ME, backstage
from tests.contract.story import (
    HUB,
    KEYS,
    LANES,
    MODEL,
    NODE,
    OTHER_MODEL,
    TTLS,
    a_job,
    all_keys,
    claim_all,
    hash_of,
    held_by,
    on_real_brokers,
    pending,
    publish,
    raw,
    requests_of,
    until_blocked,
)
from tests.contract.test_registry import RECORD

FOREIGN = NodeId("node-2")
NEAR = near_lane(NODE)
INTERACTIVE = LaneName(Lane.INTERACTIVE, MODEL)
ASIDE = SetAside(NODE, 1)
OWN = [LANES[0], NEAR, *LANES[1:]]
"""What the node reads, in its order."""


async def set_aside(broker: Broker, request: str = "r1", model: ModelId = MODEL, near: SetAside = ASIDE) -> Ticket:
    """Publish a job for a node whose lane is there."""
    await JobLanes(broker).ensure([near_lane(near.node), *lanes_of([model])])
    return await publish(broker, request, model, near=near)


async def other_claims(broker: Broker) -> list[Delivery]:
    """What another node of the model gets."""
    return await claim_all(broker, LANES, FOREIGN)


class TestSetAside:
    async def test_a_job_lies_in_its_node_s_own_lane_and_nobody_else_gets_it(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        assert ticket.lane == LaneName(Lane.INTERACTIVE, MODEL, NODE)
        assert await raw(broker).xlen("ghub:{jobs}:near:node-1") == 1
        assert await other_claims(broker) == []
        (delivery,) = await claim_all(broker, OWN)
        assert delivery.ticket == ticket
        assert Job.from_fields(delivery.fields or {}) == a_job("r1")

    async def test_the_hash_says_from_the_first_for_whom(self, broker: Broker) -> None:
        await set_aside(broker)
        assert (await hash_of(broker, KEYS.request(RequestId("r1"))))["near"] == NODE

    async def test_jobs_of_all_models_of_the_node_lie_there(self, broker: Broker) -> None:
        tickets = [await set_aside(broker, "r1", near=SetAside(NODE, 2))]
        tickets.append(await set_aside(broker, "r2", OTHER_MODEL, SetAside(NODE, 2)))
        assert [one.ticket for one in await claim_all(broker, [NEAR])] == tickets
        assert [one.ticket for one in await held_by(broker, NODE, [NEAR])] == tickets
        assert [ticket.lane.model for ticket in tickets] == [MODEL, OTHER_MODEL]

    async def test_a_job_that_must_be_tried_again_goes_before_and_a_batch_behind(self, broker: Broker) -> None:
        await set_aside(broker, "near")
        await publish(broker, "batch", lane=Lane.BATCH)
        await publish(broker, "retry", lane=Lane.RETRY)
        assert requests_of(await claim_all(broker, OWN)) == ["retry", "near", "batch"]

    async def test_nobody_who_waits_for_the_model_is_overtaken(self, broker: Broker) -> None:
        await publish(broker, "first")
        assert (await set_aside(broker, "second")).lane == INTERACTIVE
        assert requests_of(await other_claims(broker)) == ["first", "second"]

    async def test_no_more_wait_for_a_node_than_it_has_free_slots(self, broker: Broker) -> None:
        two = SetAside(NODE, 2)
        lanes = [(await set_aside(broker, request, near=two)).lane for request in ("r1", "r2", "r3")]
        assert [lane.near for lane in lanes] == [NODE, NODE, None]
        await other_claims(broker)
        (first, _) = await claim_all(broker, [NEAR])
        assert (await set_aside(broker, "r4", near=two)).lane.near == NODE, "what runs there does not wait there"
        await JobLanes(broker).settle(first.ticket, "r1")
        assert await pending(broker, NEAR) == 1

    @pytest.mark.parametrize("has_stream", [False, True])
    async def test_a_lane_that_nobody_reads_gets_nothing(self, broker: Broker, *, has_stream: bool) -> None:
        if has_stream:
            await raw(broker).xadd(KEYS.lane(*NEAR), {"a": "b"})
        assert (await publish(broker, near=SetAside(NODE, 9))).lane == INTERACTIVE
        assert (KEYS.lane(*NEAR) in await all_keys(broker)) is has_stream

    async def test_publishing_once_more_adds_nothing(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        assert await publish(broker, near=ASIDE) == ticket
        (delivery,) = await claim_all(broker, OWN)
        assert await publish(broker, near=ASIDE) == delivery.ticket
        await publish(broker, "r2")
        assert requests_of(await other_claims(broker)) == ["r2"]

    async def test_an_entry_of_the_same_number_in_another_lane_is_somebody_else_s(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        await raw(broker).xadd(KEYS.lane(*INTERACTIVE), {**a_job("r2").to_fields()}, id=ticket.entry)
        again = await Requests(broker, TTLS, HUB).publish(
            a_job("r1"), Lane.INTERACTIVE, {"model": MODEL}, max_waiting=9, near=ASIDE
        )
        assert isinstance(again, Published)
        assert again.ticket == ticket
        (delivery,) = await claim_all(broker, [NEAR])
        await JobLanes(broker).settle(delivery.ticket)
        assert await NearLanes(broker).move(ticket, RequestId("r1")) is None

    async def test_it_stands_in_the_queue_of_its_lane(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        await publish(broker, "r2")
        waiting = [(RequestId("r1"), ticket.lane), (RequestId("r2"), INTERACTIVE)]
        assert await Queues(broker).places(waiting) == [0, 1]

    @on_real_brokers
    async def test_a_node_that_is_blocked_hears_of_it_at_once(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        await lanes.ensure(OWN)
        waits = [
            asyncio.create_task(lanes.wait(FOREIGN, LANES, 10_000)),
            asyncio.create_task(JobLanes(broker).wait(NODE, OWN, 10_000)),
        ]
        await until_blocked(broker, 2)
        await publish(broker, near=ASIDE)
        (delivery,) = await waits[1]
        assert delivery.ticket.lane == INTERACTIVE._replace(near=NODE)
        await publish(broker, "r2")
        assert requests_of(await waits[0]) == ["r2"]


class TestMovedOn:
    async def test_what_its_node_does_not_take_anybody_gets_as_it_was_signed(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        moved = await NearLanes(broker).move(ticket, RequestId("r1"))
        assert await claim_all(broker, [NEAR]) == []
        (delivery,) = await other_claims(broker)
        assert (delivery.ticket, Job.from_fields(delivery.fields or {})) == (moved, a_job("r1"))
        assert delivery.ticket.lane == INTERACTIVE

    async def test_moving_once_more_finds_where_it_lies(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        moved = [await NearLanes(broker).move(ticket, RequestId("r1")) for _ in range(2)]
        assert moved[0] == moved[1]
        assert len(await other_claims(broker)) == 1

    async def test_what_its_node_has_claimed_stays(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        await claim_all(broker, OWN)
        assert await NearLanes(broker).move(ticket, RequestId("r1")) is None
        assert await other_claims(broker) == []
        assert requests_of(await held_by(broker, NODE, [NEAR])) == ["r1"]

    async def test_what_was_called_off_stays_gone(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        await Requests(broker, TTLS, HUB).call_off(RequestId("r1"), a_job("r1").reply, ticket, None)
        assert await NearLanes(broker).move(ticket, RequestId("r1")) is None
        assert await claim_all(broker, OWN) == []
        assert await raw(broker).zcard(KEYS.waiting(*INTERACTIVE)) == 0

    async def test_a_node_that_has_it_hears_that_it_was_called_off(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        await claim_all(broker, OWN)
        await Requests(broker, TTLS, HUB).call_off(RequestId("r1"), a_job("r1").reply, ticket, None)
        assert await ControlStreams(broker).newest(NODE) is not None

    async def test_it_takes_its_place_behind_those_who_came_before_it(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        await publish(broker, "r2")
        moved = await NearLanes(broker).move(ticket, RequestId("r1"))
        assert moved is not None
        assert await Queues(broker).places([(RequestId("r1"), moved.lane)]) == [1]
        assert requests_of(await other_claims(broker)) == ["r2", "r1"]

    async def test_the_next_attempt_of_one_that_ran_there_waits_in_the_retry_lane(self, broker: Broker) -> None:
        ticket = await set_aside(broker)
        await claim_all(broker, OWN)
        await JobLanes(broker).requeue(ticket, replace(a_job("r1"), attempt=2))
        assert await raw(broker).xlen(KEYS.lane(*NEAR)) == await pending(broker, NEAR) == 0
        (delivery,) = await other_claims(broker)
        assert delivery.ticket.lane == LANES[0]

    async def test_settling_leaves_nothing(self, broker: Broker) -> None:
        await set_aside(broker)
        (delivery,) = await claim_all(broker, OWN)
        await JobLanes(broker).settle(delivery.ticket, "r1")
        assert await raw(broker).xlen(KEYS.lane(*NEAR)) == await pending(broker, NEAR) == 0
        assert await raw(broker).zcard(KEYS.waiting(*INTERACTIVE)) == 0

    @pytest.mark.parametrize("times", range(5))
    async def test_claimed_and_moved_at_once_it_is_in_one_place(self, broker: Broker, times: int) -> None:
        ticket = await set_aside(broker, f"r{times}")
        claimed, moved = await asyncio.gather(
            JobLanes(broker).claim(NODE, [NEAR], 1), NearLanes(broker).move(ticket, RequestId(f"r{times}"))
        )
        assert [len(claimed), len(await other_claims(broker))] == ([1, 0] if moved is None else [0, 1])


class TestSwept:
    """Nobody looks after a job any more, or a node has gone and left its lane."""

    async def sweep(self, broker: Broker) -> LaneSweep:
        stage = backstage(broker, ME)
        await stage.clock.sync()
        await stage.view.refresh()
        return LaneSweep(stage, LaneLooks(broker), RequestBook(broker), Complaints(), node_lease_ms=0)

    async def test_a_job_whose_hub_forgot_it_is_moved_on(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        await set_aside(broker)
        await (await self.sweep(broker)).look()
        assert await other_claims(broker) == [], "not before its time"
        monkeypatch.setattr(lane_sweep, "SET_ASIDE_MS", -1000)
        await (await self.sweep(broker)).look()
        assert requests_of(await other_claims(broker)) == ["r1"]

    async def test_a_job_that_nobody_waits_for_is_withdrawn(self, broker: Broker) -> None:
        await set_aside(broker)
        await raw(broker).delete(a_job("r1").reply)
        await (await self.sweep(broker)).look()
        assert await raw(broker).xlen(KEYS.lane(*NEAR)) == 0
        assert await raw(broker).zcard(KEYS.waiting(*INTERACTIVE)) == 0

    async def test_a_job_that_a_dead_node_had_and_nobody_waits_for_is_settled(self, broker: Broker) -> None:
        await set_aside(broker)
        await claim_all(broker, OWN)
        await raw(broker).delete(a_job("r1").reply)
        await (await self.sweep(broker)).look()
        assert await raw(broker).xlen(KEYS.lane(*NEAR)) == await pending(broker, NEAR) == 0

    async def test_the_lane_of_a_node_that_is_gone_for_long_is_taken_away_once_it_is_empty(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await set_aside(broker)
        sweep = await self.sweep(broker)
        await sweep.look()
        monkeypatch.setattr(lane_sweep, "DROP_LANE_S", -1.0)
        await sweep.look()
        assert await NearLanes(broker).nodes() == [NODE], "a job lies there"
        await claim_all(broker, [NEAR])
        await JobLanes(broker).settle((await held_by(broker, NODE, [NEAR]))[0].ticket)
        await sweep.look()
        assert await NearLanes(broker).nodes() == []
        assert KEYS.lane(*NEAR) not in await all_keys(broker)

    async def test_the_lane_of_a_node_that_lives_stays(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        await JobLanes(broker).ensure([NEAR])
        now_ms = int(time.time() * 1000)
        await Registry(broker).write_node(replace(RECORD, node=NODE, heartbeat_at=now_ms), 6000)
        monkeypatch.setattr(lane_sweep, "DROP_LANE_S", -1.0)
        sweep = await self.sweep(broker)
        await sweep.look()
        await sweep.look()
        assert await NearLanes(broker).nodes() == [NODE]

    async def test_lanes_of_models_are_no_lanes_of_nodes(self, broker: Broker) -> None:
        await JobLanes(broker).ensure([NEAR, *LANES])
        assert await JobLanes(broker).known() == {*LANES}
        assert await NearLanes(broker).nodes() == [NODE]


class TestServed:
    async def test_the_first_that_is_known_counts_until_it_is_forgotten(self, broker: Broker) -> None:
        book = ServedBook(broker)
        assert await book.find(["a", "b"]) is None
        await book.write({"b": NODE, "c": FOREIGN}, 60_000)
        assert await book.find(["a", "b", "c"]) == NODE
        assert 0 < await raw(broker).pttl(KEYS.served("b")) <= 60_000
