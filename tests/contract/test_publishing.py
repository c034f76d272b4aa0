"""Publishing: one atomic step that admits a job and all its keys, or leaves nothing behind."""

import asyncio

import pytest

from common.broker.broker import Broker
from common.streams.jobs import JobLanes, LaneName
from common.streams.queues import Queues
from common.streams.requests import Published, QueueFull, Requests
from common.types import Lane, ModelId, RequestId, RequestStatus
from common.wire import Job
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
    publish,
    raw,
    requests_of,
    try_publish,
)


class TestPublished:
    async def test_a_published_job_is_claimed_byte_for_byte(self, broker: Broker) -> None:
        await publish(broker, "r1")
        (delivery,) = await claim_all(broker)
        assert Job.from_fields(delivery.fields or {}) == a_job("r1")

    async def test_the_ticket_tells_where_it_lies(self, broker: Broker) -> None:
        ticket = await publish(broker, "r1", lane=Lane.BATCH)
        assert ticket.lane == LaneName(Lane.BATCH, MODEL)
        (delivery,) = await claim_all(broker)
        assert delivery.ticket == ticket

    async def test_publishing_once_more_adds_nothing(self, broker: Broker) -> None:
        first = await try_publish(broker, "r1", max_waiting=1)
        assert await try_publish(broker, "r1", max_waiting=1) == first
        (delivery,) = await claim_all(broker)
        assert await try_publish(broker, "r1", max_waiting=1) == first
        assert isinstance(first, Published)
        assert delivery.ticket == first.ticket
        assert await claim_all(broker) == []

    async def test_the_request_has_its_hash_and_its_open_reply(self, broker: Broker) -> None:
        await publish(broker, "r1")
        shown = await hash_of(broker, KEYS.request(RequestId("r1")))
        assert shown == {"model": MODEL, "hub": HUB, "status": RequestStatus.QUEUED}
        ((opening, _),) = await raw(broker).xrange(a_job("r1").reply)
        assert opening == b"0-1"

    async def test_every_key_but_the_lane_ends_by_itself(self, broker: Broker) -> None:
        ticket = await publish(broker, "r1")
        lane = KEYS.lane(*ticket.lane)
        ttls = {key: await raw(broker).pttl(key) for key in await all_keys(broker)}
        assert ttls.pop(lane) == -1
        assert len(ttls) == 5
        assert all(ttl > 0 for ttl in ttls.values()), ttls
        assert ttls[KEYS.request(RequestId("r1"))] <= TTLS.request_ms
        assert ttls[a_job("r1").reply] <= TTLS.reply_ms

    @pytest.mark.parametrize("model", ["{tag}", "a:b:c", "two words", "glob*?[x]", "naïve-模型", "interactive:", '"'])
    async def test_any_model_name_has_its_lane(self, broker: Broker, model: str) -> None:
        name = LaneName(Lane.INTERACTIVE, ModelId(model))
        await publish(broker, "r1", ModelId(model))
        assert await JobLanes(broker).known() == {name}
        assert requests_of(await claim_all(broker, [name])) == ["r1"]


class TestPlaces:
    async def test_it_is_told_how_many_wait_before_it(self, broker: Broker) -> None:
        places = []
        for n in range(3):
            published = await try_publish(broker, f"r{n}")
            assert isinstance(published, Published)
            places.append(published.ahead)
        assert places == [0, 1, 2]

    async def test_more_urgent_lanes_come_first_and_less_urgent_ones_do_not_count(self, broker: Broker) -> None:
        for request, lane in (("a", Lane.BATCH), ("b", Lane.INTERACTIVE), ("c", Lane.RETRY)):
            await publish(broker, request, lane=lane)
        ahead = {}
        for lane in Lane:
            published = await try_publish(broker, f"late-{lane}", lane=lane)
            assert isinstance(published, Published)
            ahead[lane] = published.ahead
        assert ahead == {Lane.RETRY: 1, Lane.INTERACTIVE: 3, Lane.BATCH: 5}

    async def test_what_runs_is_not_before_it(self, broker: Broker) -> None:
        await publish(broker, "running")
        await claim_all(broker)
        published = await try_publish(broker, "next")
        assert isinstance(published, Published)
        assert published.ahead == 0


class TestQueueLimit:
    async def test_a_full_queue_takes_no_more_and_says_how_many_wait(self, broker: Broker) -> None:
        for n in range(3):
            await publish(broker, f"r{n}", max_waiting=3)
        assert await try_publish(broker, "late", max_waiting=3) == QueueFull(3)

    async def test_nothing_is_left_of_a_job_that_was_not_taken(self, broker: Broker) -> None:
        await publish(broker, "r1", max_waiting=1)
        before = await all_keys(broker)
        assert isinstance(await try_publish(broker, "late", max_waiting=1), QueueFull)
        assert await all_keys(broker) == before
        assert await raw(broker).zrange(KEYS.waiting(Lane.INTERACTIVE, MODEL), 0, -1) == [b"r1"]
        assert requests_of(await claim_all(broker)) == ["r1"]

    async def test_a_full_queue_of_a_new_lane_leaves_no_lane(self, broker: Broker) -> None:
        await publish(broker, "r1", max_waiting=1)
        await try_publish(broker, "late", lane=Lane.BATCH, max_waiting=1)
        assert await JobLanes(broker).known() == {LaneName(Lane.INTERACTIVE, MODEL)}
        assert KEYS.lane(Lane.BATCH, MODEL) not in await all_keys(broker)

    async def test_all_lanes_of_a_model_fill_one_queue_and_other_models_do_not(self, broker: Broker) -> None:
        await publish(broker, "r1", lane=Lane.RETRY, max_waiting=3)
        await publish(broker, "r2", lane=Lane.BATCH, max_waiting=3)
        await publish(broker, "other", OTHER_MODEL, max_waiting=3)
        await publish(broker, "r3", max_waiting=3)
        assert await try_publish(broker, "r4", max_waiting=3) == QueueFull(3)

    async def test_jobs_that_run_take_no_place_in_the_queue(self, broker: Broker) -> None:
        await publish(broker, "r1", max_waiting=1)
        await claim_all(broker)
        await publish(broker, "r2", max_waiting=1)
        assert await try_publish(broker, "r3", max_waiting=1) == QueueFull(1)

    async def test_of_many_who_race_for_the_last_places_just_so_many_win(self, broker: Broker) -> None:
        await publish(broker, "before", max_waiting=4)
        results = await asyncio.gather(*(try_publish(broker, f"r{n}", max_waiting=4) for n in range(20)))
        winners = [result for result in results if isinstance(result, Published)]
        assert len(winners) == 3
        assert sorted(winner.ahead for winner in winners) == [1, 2, 3]
        assert len(await claim_all(broker)) == 4

    async def test_two_who_race_for_the_last_place_do_not_both_win(self, broker: Broker) -> None:
        for n in range(20):
            results = await asyncio.gather(*(try_publish(broker, f"r{n}-{hub}", max_waiting=1) for hub in "ab"))
            assert sorted(type(result).__name__ for result in results) == ["Published", "QueueFull"]
            for delivery in await claim_all(broker):
                await JobLanes(broker).settle(delivery.ticket)


class TestUpdate:
    async def test_later_facts_join_the_hash_and_renew_it(self, broker: Broker) -> None:
        await publish(broker, "r1")
        key = KEYS.request(RequestId("r1"))
        await raw(broker).pexpire(key, 1000)
        requests = Requests(broker, TTLS, HUB)
        await requests.update({RequestId("r1"): {"status": "claimed", "node": NODE, "tokens": 7}}, {})
        shown = await hash_of(broker, key)
        assert (shown["status"], shown["node"], shown["tokens"], shown["model"]) == ("claimed", NODE, "7", MODEL)
        assert await raw(broker).pttl(key) > 1000

    async def test_who_was_claimed_leaves_the_queue_s_index(self, broker: Broker) -> None:
        for n in range(3):
            await publish(broker, f"r{n}")
        await Requests(broker, TTLS, HUB).update({}, {RequestId("r0"): LaneName(Lane.INTERACTIVE, MODEL)})
        waiting = [(RequestId(f"r{n}"), LaneName(Lane.INTERACTIVE, MODEL)) for n in (1, 2)]
        assert await Queues(broker).places(waiting) == [0, 1]

    async def test_a_request_whose_hash_has_gone_gets_one_that_ends(self, broker: Broker) -> None:
        await Requests(broker, TTLS, HUB).update({RequestId("gone"): {"status": "done"}}, {})
        assert await raw(broker).pttl(KEYS.request(RequestId("gone"))) > 0

    async def test_a_reply_that_was_read_lingers_and_goes(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await Requests(broker, TTLS, HUB).close(a_job("r1").reply, 500)
        assert 0 < await raw(broker).pttl(a_job("r1").reply) <= 500


async def test_lanes_are_known_once_anything_was_published_to_them(broker: Broker) -> None:
    await publish(broker, "r1")
    await publish(broker, "r2", OTHER_MODEL, Lane.BATCH)
    assert await JobLanes(broker).known() == {
        LaneName(Lane.INTERACTIVE, MODEL),
        LaneName(Lane.BATCH, OTHER_MODEL),
    }


async def test_a_lane_of_a_later_version_is_passed_over(broker: Broker) -> None:
    """While a grid is upgraded, hubs of two versions share the set of lanes."""
    await JobLanes(broker).ensure(LANES)
    await raw(broker).sadd(KEYS.lanes, "express:tiny:1b", "rubbish", b"\xff")
    assert await JobLanes(broker).known() == set(LANES)
