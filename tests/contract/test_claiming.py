"""Claiming: in the order of the lanes, never more than there are free slots, and through every loss of a lane."""

import asyncio
import random
import time
from contextlib import suppress

import pytest

from common.broker.broker import Broker, connect
from common.errors import LaneMissing
from common.keys import GROUP
from common.streams.jobs import Delivery, JobLanes, LaneName, lanes_of
from common.streams.queues import Queues
from common.types import Lane, ModelId, NodeId
from common.wire import Job
from tests.contract.story import (
    KEYS,
    LANES,
    MODEL,
    NODE,
    OTHER_MODEL,
    a_job,
    claim_all,
    eventually,
    flush,
    held_by,
    on_real_brokers,
    pending,
    publish,
    raw,
    requests_of,
    until_blocked,
)

INTERACTIVE = LaneName(Lane.INTERACTIVE, MODEL)
MODELS = [ModelId(f"model-{n}") for n in range(5)]


def at(delivery: Delivery) -> tuple[str, bytes]:
    return str(delivery.ticket.lane), delivery.ticket.entry


class TestOrder:
    async def test_urgent_lanes_of_all_models_go_before_less_urgent_ones(self, broker: Broker) -> None:
        await publish(broker, "batch-a", MODEL, Lane.BATCH)
        await publish(broker, "interactive-b", OTHER_MODEL, Lane.INTERACTIVE)
        await publish(broker, "interactive-a", MODEL, Lane.INTERACTIVE)
        await publish(broker, "retry-b", OTHER_MODEL, Lane.RETRY)
        claimed = await claim_all(broker, lanes_of([MODEL, OTHER_MODEL]))
        assert requests_of(claimed) == ["retry-b", "interactive-a", "interactive-b", "batch-a"]

    async def test_a_loaded_model_that_is_named_first_goes_first(self, broker: Broker) -> None:
        await publish(broker, "a", MODEL)
        await publish(broker, "b", OTHER_MODEL)
        assert requests_of(await JobLanes(broker).claim(NODE, lanes_of([OTHER_MODEL, MODEL]), 1)) == ["b"]

    async def test_within_a_lane_who_came_first_goes_first(self, broker: Broker) -> None:
        for n in range(20):
            await publish(broker, f"r{n}")
        assert requests_of(await claim_all(broker)) == [f"r{n}" for n in range(20)]

    async def test_models_that_are_not_served_are_left_alone(self, broker: Broker) -> None:
        await publish(broker, "a", MODEL)
        await publish(broker, "b", OTHER_MODEL)
        assert requests_of(await claim_all(broker, lanes_of([MODEL]))) == ["a"]
        assert requests_of(await claim_all(broker, lanes_of([OTHER_MODEL]))) == ["b"]


class TestCount:
    @pytest.mark.parametrize("free_slots", [1, 2, 4, 7])
    async def test_never_more_than_there_are_free_slots_over_any_number_of_lanes(
        self, broker: Broker, free_slots: int
    ) -> None:
        for model in MODELS:
            for lane in Lane:
                for n in range(2):
                    await publish(broker, f"{model}-{lane}-{n}", model, lane)
        seen: list[str] = []
        while claimed := await JobLanes(broker).claim(NODE, lanes_of(MODELS), free_slots):
            assert len(claimed) <= free_slots
            seen += requests_of(claimed)
        assert len(seen) == len({*seen}) == len(MODELS) * len(Lane) * 2

    async def test_no_free_slot_takes_nothing(self, broker: Broker) -> None:
        await publish(broker, "r1")
        assert await JobLanes(broker).claim(NODE, LANES, 0) == []
        assert requests_of(await claim_all(broker)) == ["r1"]

    async def test_nodes_that_race_share_the_jobs_and_none_runs_twice(self, broker: Broker) -> None:
        for n in range(40):
            await publish(broker, f"r{n}", lane=random.choice([*Lane]))
        nodes = [NodeId(f"node-{n}") for n in range(8)]
        claims = await asyncio.gather(*(JobLanes(broker).claim(node, LANES, 3) for node in nodes))
        assert [len(claim) for claim in claims] == [3] * 8
        seen = [request for claim in claims for request in requests_of(claim)]
        assert len({*seen}) == 24

    async def test_nothing_waiting_gives_nothing(self, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        assert await claim_all(broker) == []


class TestWaiting:
    async def test_a_wait_ends_with_the_job_that_comes(self, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        waiting = asyncio.create_task(JobLanes(broker).wait(NODE, LANES, 20_000))
        await until_blocked(broker)
        await publish(broker, "r1")
        (delivery,) = await asyncio.wait_for(waiting, 5)
        assert delivery.ticket.lane == INTERACTIVE
        assert Job.from_fields(delivery.fields or {}) == a_job("r1")

    async def test_a_wait_takes_what_was_there_before(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        await lanes.ensure(LANES)
        await publish(broker, "r1")
        assert requests_of(await lanes.wait(NODE, LANES, 20_000)) == ["r1"]

    async def test_a_wait_takes_one_of_a_lane_at_most(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        await lanes.ensure(LANES)
        for n in range(3):
            await publish(broker, f"r{n}")
        assert requests_of(await lanes.wait(NODE, LANES, 20_000)) == ["r0"]

    async def test_a_wait_takes_as_many_of_each_lane_as_it_may(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        await lanes.ensure(LANES)
        for n in range(3):
            await publish(broker, f"r{n}")
            await publish(broker, f"b{n}", lane=Lane.BATCH)
        assert requests_of(await lanes.wait(NODE, LANES, 20_000, count=2)) == ["r0", "r1", "b0", "b1"]

    async def test_a_wait_in_vain_ends_when_its_time_is_up(self, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        began = time.monotonic()
        assert await JobLanes(broker).wait(NODE, LANES, 100) == []
        assert 0.05 < time.monotonic() - began < 5

    async def test_one_job_wakes_one_of_the_nodes_that_wait(self, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        nodes = [NodeId(f"node-{n}") for n in range(3)]
        waiting = [asyncio.create_task(JobLanes(broker).wait(node, LANES, 1000)) for node in nodes]
        await until_blocked(broker, 3)
        await publish(broker, "r1")
        results = await asyncio.wait_for(asyncio.gather(*waiting), 10)
        assert sorted(len(result) for result in results) == [0, 0, 1]


class TestLostLanes:
    async def test_lanes_that_nobody_made_are_missed(self, broker: Broker) -> None:
        """Whoever claims may not be allowed to make them, so it is told."""
        lanes = JobLanes(broker)
        with pytest.raises(LaneMissing):
            await lanes.claim(NODE, LANES, 1)
        with pytest.raises(LaneMissing):
            await lanes.wait(NODE, LANES, 20_000)
        assert await lanes.known() == set()

    async def test_making_lanes_twice_changes_nothing(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        await lanes.ensure(LANES)
        await publish(broker, "running")
        await claim_all(broker)
        await publish(broker, "waiting")
        await lanes.ensure(LANES)
        assert await pending(broker, INTERACTIVE) == 1
        assert requests_of(await claim_all(broker)) == ["waiting"]

    async def test_making_no_lanes_is_nothing(self, broker: Broker) -> None:
        await JobLanes(broker).ensure([])
        assert await JobLanes(broker).known() == set()

    async def test_a_job_from_before_its_group_was_made_anew_is_delivered(self, broker: Broker) -> None:
        """Groups start at 0: at `$` this job would never run."""
        await publish(broker, "r1")
        await raw(broker).xgroup_destroy(KEYS.lane(*INTERACTIVE), GROUP)
        await JobLanes(broker).ensure(LANES)
        assert requests_of(await claim_all(broker)) == ["r1"]

    async def test_a_job_in_a_lane_that_never_had_a_group_is_delivered(self, broker: Broker) -> None:
        await raw(broker).xadd(KEYS.lane(*INTERACTIVE), {**a_job("r1").to_fields()})
        assert requests_of(await claim_all(broker)) == ["r1"]

    async def test_after_a_flush_lanes_are_missed_until_they_are_made_anew(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        await lanes.ensure(LANES)
        await flush(broker)
        with pytest.raises(LaneMissing):
            await lanes.claim(NODE, LANES, 1)
        await publish(broker, "r1")
        await lanes.ensure(LANES)
        assert requests_of(await lanes.claim(NODE, LANES, 1)) == ["r1"]

    @on_real_brokers
    async def test_a_flush_in_mid_wait_ends_it(self, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        waiting = asyncio.create_task(JobLanes(broker).wait(NODE, LANES, 20_000))
        await until_blocked(broker)
        await flush(broker)
        with pytest.raises(LaneMissing):
            await asyncio.wait_for(waiting, 5)

    @on_real_brokers
    async def test_a_job_that_comes_right_after_a_flush_in_mid_wait_is_not_lost(self, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        waiting = asyncio.create_task(JobLanes(broker).wait(NODE, LANES, 20_000))
        await until_blocked(broker)
        await flush(broker)
        await publish(broker, "r1")
        taken = []
        with suppress(LaneMissing):  # unless the job was there before the broker looked
            taken = requests_of(await asyncio.wait_for(waiting, 5))
        assert taken + requests_of(await claim_all(broker)) == ["r1"]

    async def test_a_lane_without_its_group_costs_no_job_of_the_other_lanes(self, broker: Broker) -> None:
        """What a claim took before it came to the broken lane is ours: were it not returned, nobody would run it."""
        lanes = JobLanes(broker)
        await lanes.ensure(LANES)
        await publish(broker, "r1", lane=Lane.RETRY)
        await publish(broker, "r2")
        await raw(broker).delete(KEYS.lane(Lane.BATCH, MODEL))
        assert requests_of(await lanes.claim(NODE, LANES, 5)) == ["r1", "r2"]
        with pytest.raises(LaneMissing):
            await lanes.claim(NODE, LANES, 5)
        await lanes.ensure(LANES)
        await publish(broker, "r3", lane=Lane.BATCH)
        assert requests_of(await lanes.claim(NODE, LANES, 5)) == ["r3"]


class TestHeld:
    async def test_what_a_node_holds_is_found_by_its_name(self, broker: Broker) -> None:
        for n in range(3):
            await publish(broker, f"mine-{n}", lane=Lane.RETRY)
        await publish(broker, "mine-too")
        mine = await claim_all(broker)
        await publish(broker, "yours")
        await claim_all(broker, node=NodeId("other"))
        assert sorted(await held_by(broker, NODE), key=at) == sorted(mine, key=at)
        assert await held_by(broker, NodeId("nobody")) == []

    async def test_what_only_waits_is_held_by_nobody(self, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        await publish(broker, "r1")
        assert await held_by(broker, NODE) == []
        assert requests_of(await claim_all(broker)) == ["r1"]

    async def test_jobs_that_are_settled_while_others_are_read_hide_none(self, broker: Broker) -> None:
        for n in range(5):
            await publish(broker, f"r{n}")
        await claim_all(broker)
        found = []
        async for delivery in JobLanes(broker).delivered(NODE, LANES):
            found.append(delivery)
            await JobLanes(broker).settle(delivery.ticket)
        assert requests_of(found) == [f"r{n}" for n in range(5)]
        assert await held_by(broker, NODE) == []

    async def test_lanes_that_nobody_made_hold_nothing_and_hide_none(self, broker: Broker) -> None:
        assert await held_by(broker, NODE) == []
        await publish(broker, "r1")
        (mine,) = await claim_all(broker, [INTERACTIVE])
        assert await held_by(broker, NODE) == [mine]

    async def test_a_held_job_can_be_read_once_more(self, broker: Broker) -> None:
        await publish(broker, "r1")
        (delivery,) = await claim_all(broker)
        assert await JobLanes(broker).fetch(delivery.ticket) == delivery

    async def test_a_job_that_was_trimmed_away_is_read_as_such(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await publish(broker, "r2")
        gone, stays = await claim_all(broker)
        await raw(broker).xdel(KEYS.lane(*INTERACTIVE), gone.ticket.entry)
        assert (await JobLanes(broker).fetch(gone.ticket)).fields is None
        assert await held_by(broker, NODE) == [Delivery(gone.ticket, None), stays]

    @on_real_brokers
    async def test_a_delivery_whose_connection_died_is_found_again(self, broker: Broker) -> None:
        """The broker may hand a job to a client that is gone: it is nobody's but by name."""
        await JobLanes(broker).ensure(LANES)
        waiting = asyncio.create_task(JobLanes(broker).wait(NODE, LANES, 20_000))
        await until_blocked(broker)
        await publish(broker, "r1")
        waiting.cancel()
        await asyncio.wait([waiting])

        async def is_somewhere() -> bool:
            held = await held_by(broker, NODE)
            return bool(held) or requests_of(await claim_all(broker, node=NodeId("other"))) == ["r1"]

        await eventually(is_somewhere, "the job is held by its node or still waits")


@on_real_brokers
async def test_lanes_that_a_user_may_not_read_are_told_apart(broker: Broker) -> None:
    """A claim over both would be refused as a whole, and hold up the model that may be served."""
    await JobLanes(broker).ensure(lanes_of([MODEL, OTHER_MODEL]))
    await publish(broker, "r1", OTHER_MODEL)
    allowed = [f"~{KEYS.lane(*lane)}" for lane in LANES]
    await raw(broker).execute_command(
        "ACL", "SETUSER", "carol", "reset", "on", ">secret", "+client", "+xreadgroup", *allowed
    )
    try:
        port = raw(broker).connection_pool.connection_kwargs["port"]
        own = connect(
            f"redis://127.0.0.1:{port}/0",
            prefix="ghub:",
            client_name="contract",
            credentials=lambda: ("carol", "secret"),
        )
        try:
            denied = await JobLanes(own).denied(NODE, lanes_of([MODEL, OTHER_MODEL]))
            assert denied == set(lanes_of([OTHER_MODEL]))
        finally:
            await own.aclose()
    finally:
        await raw(broker).execute_command("ACL", "DELUSER", "carol")
    assert await JobLanes(broker).denied(NODE, lanes_of([MODEL, OTHER_MODEL])) == set()
    assert requests_of(await claim_all(broker, lanes_of([OTHER_MODEL]))) == ["r1"]


class TestLoads:
    async def test_what_waits_and_what_runs_is_told_apart(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        for n in range(5):
            await publish(broker, f"r{n}")
        await lanes.claim(NODE, LANES, 2)
        await publish(broker, "batch", lane=Lane.BATCH)
        loads = await Queues(broker).loads(LANES)
        assert {str(lane): tuple(load) for lane, load in loads.items()} == {
            f"retry:{MODEL}": (0, 0),
            f"interactive:{MODEL}": (3, 2),
            f"batch:{MODEL}": (1, 0),
        }

    async def test_lanes_that_nobody_made_are_empty(self, broker: Broker) -> None:
        assert set((await Queues(broker).loads(LANES)).values()) == {(0, 0)}

    async def test_no_lanes_have_no_loads(self, broker: Broker) -> None:
        assert await Queues(broker).loads([]) == {}
