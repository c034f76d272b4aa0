"""How a job leaves its lane: settled, requeued once, withdrawn while it waits, called off, or buried."""

import asyncio

import pytest

from common.broker.broker import Broker
from common.orders import ControlEntry, Order
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes, LaneName, Ticket
from common.streams.queues import Queues
from common.streams.requests import Requests
from common.types import Lane, NodeId, RequestId
from common.wire import Job
from tests.contract.story import (
    HUB,
    KEYS,
    MODEL,
    NODE,
    OTHER_MODEL,
    TTLS,
    a_job,
    all_keys,
    claim_all,
    flush,
    pending,
    publish,
    raw,
    requests_of,
)

INTERACTIVE = LaneName(Lane.INTERACTIVE, MODEL)
RETRY = LaneName(Lane.RETRY, MODEL)
R1 = RequestId("r1")


async def claimed(broker: Broker, request: str = "r1") -> Ticket:
    ticket = await publish(broker, request)
    assert [delivery.ticket for delivery in await claim_all(broker)] == [ticket]
    return ticket


def score_of(ticket: Ticket) -> int:
    """Where the waiting index has the job of this entry."""
    ms, number = ticket.entry.split(b"-")
    return int(ms) * 1000 + int(number)


class TestSettle:
    async def test_a_settled_job_leaves_neither_entry_nor_claim(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        await JobLanes(broker).settle(ticket)
        assert await raw(broker).xlen(KEYS.lane(*INTERACTIVE)) == 0
        assert await pending(broker, INTERACTIVE) == 0

    async def test_settling_twice_or_something_unknown_is_harmless(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        await publish(broker, "other")
        for _ in range(2):
            await JobLanes(broker).settle(ticket)
        await JobLanes(broker).settle(Ticket(LaneName(Lane.BATCH, OTHER_MODEL), b"1-1"))
        assert requests_of(await claim_all(broker)) == ["other"]
        assert KEYS.lane(Lane.BATCH, OTHER_MODEL) not in await all_keys(broker)

    async def test_what_an_overtaken_attempt_settles_late_leaves_the_new_one_its_place(self, broker: Broker) -> None:
        """Both are in the retry lane, and the queue's index names the request."""
        lanes = JobLanes(broker)
        second = await lanes.requeue(await claimed(broker), a_job("r1", attempt=2))
        await claim_all(broker)
        third = await lanes.requeue(second, a_job("r1", attempt=3))
        await lanes.settle(second, "r1")
        assert await raw(broker).zscore(KEYS.waiting(*RETRY), "r1") == score_of(third)
        assert [delivery.ticket for delivery in await claim_all(broker)] == [third]

    async def test_a_job_that_is_refused_unclaimed_leaves_the_queue(self, broker: Broker) -> None:
        await JobLanes(broker).settle(await publish(broker, "r1"), "r1")
        assert await raw(broker).zcard(KEYS.waiting(*INTERACTIVE)) == 0

    async def test_a_job_that_nobody_claimed_can_be_settled(self, broker: Broker) -> None:
        await JobLanes(broker).settle(await publish(broker, "r1"))
        assert await claim_all(broker) == []


class TestRequeue:
    async def test_the_next_attempt_waits_in_the_retry_lane_and_the_old_one_is_gone(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        again = await JobLanes(broker).requeue(ticket, a_job("r1", attempt=2))
        assert again.lane == RETRY
        assert await raw(broker).xlen(KEYS.lane(*INTERACTIVE)) == await pending(broker, INTERACTIVE) == 0
        (delivery,) = await claim_all(broker, node=NodeId("other"))
        assert delivery.ticket == again
        assert Job.from_fields(delivery.fields or {}) == a_job("r1", attempt=2)

    async def test_a_job_that_the_lane_has_forgotten_is_requeued_all_the_same(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        await JobLanes(broker).settle(ticket)
        again = await JobLanes(broker).requeue(ticket, a_job("r1", attempt=2))
        assert [delivery.ticket for delivery in await claim_all(broker)] == [again]

    async def test_settling_the_last_attempt_leaves_the_next_one_its_place(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        for n in range(20):
            ticket = await claimed(broker, f"r{n}")
            again, _ = await asyncio.gather(lanes.requeue(ticket, a_job(f"r{n}", attempt=2)), lanes.settle(ticket))
            third = await lanes.requeue(again, a_job(f"r{n}", attempt=3))
            await lanes.settle(again, f"r{n}")
            assert await Queues(broker).places([(RequestId(f"r{n}"), RETRY)]) == [0]
            assert [delivery.ticket for delivery in await claim_all(broker)] == [third]
            await lanes.settle(third, f"r{n}")

    async def test_a_retry_can_be_retried(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        ticket = await claimed(broker)
        for attempt in (2, 3, 4):
            again = await lanes.requeue(ticket, a_job("r1", attempt=attempt))
            (delivery,) = await claim_all(broker)
            assert Job.from_fields(delivery.fields or {}).attempt == attempt
            ticket = again
        assert await raw(broker).xlen(KEYS.lane(*RETRY)) == 1

    async def test_after_a_flush_too(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        await flush(broker)
        again = await JobLanes(broker).requeue(ticket, a_job("r1", attempt=2))
        assert [delivery.ticket for delivery in await claim_all(broker)] == [again]

    async def test_it_is_indexed_and_known_as_if_published(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        ticket = await claimed(broker)
        again = await lanes.requeue(ticket, a_job("r1", attempt=2))
        assert again is not None
        assert RETRY in await lanes.known()
        assert await Queues(broker).places([(R1, RETRY)]) == [0]
        assert await raw(broker).zscore(KEYS.waiting(*RETRY), "r1") == score_of(again)
        assert await raw(broker).zscore(KEYS.waiting(*INTERACTIVE), "r1") is None

    async def test_a_retry_that_is_retried_waits_once_more_in_its_index(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        again = await lanes.requeue(await claimed(broker), a_job("r1", attempt=2))
        assert again is not None
        await claim_all(broker)
        third = await lanes.requeue(again, a_job("r1", attempt=3))
        assert third is not None
        assert await raw(broker).zscore(KEYS.waiting(*RETRY), "r1") == score_of(third)


class TestWithdraw:
    async def test_a_waiting_job_is_taken_back(self, broker: Broker) -> None:
        ticket = await publish(broker, "r1")
        await publish(broker, "r2")
        assert await JobLanes(broker).withdraw(ticket, R1) is None
        assert requests_of(await claim_all(broker)) == ["r2"]
        assert await raw(broker).zrange(KEYS.waiting(*INTERACTIVE), 0, -1) == [b"r2"]

    async def test_a_claimed_job_is_not_and_its_node_is_named(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        assert await JobLanes(broker).withdraw(ticket, R1) == NODE
        assert await pending(broker, INTERACTIVE) == 1
        assert (await JobLanes(broker).fetch(ticket)).fields is not None

    async def test_a_job_that_is_gone_has_nobody(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        await JobLanes(broker).settle(ticket)
        assert await JobLanes(broker).withdraw(ticket, R1) is None
        assert await JobLanes(broker).withdraw(Ticket(LaneName(Lane.BATCH, OTHER_MODEL), b"1-1"), R1) is None
        assert KEYS.lane(Lane.BATCH, OTHER_MODEL) not in await all_keys(broker)

    async def test_a_job_in_a_lane_without_group_is_taken_back(self, broker: Broker) -> None:
        entry = await raw(broker).xadd(KEYS.lane(*INTERACTIVE), {**a_job("r1").to_fields()})
        assert await JobLanes(broker).withdraw(Ticket(INTERACTIVE, entry), R1) is None
        assert await claim_all(broker) == []

    async def test_a_claim_and_a_withdrawal_at_once_give_one_of_the_two(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        for n in range(30):
            ticket = await publish(broker, f"r{n}")
            withdrawing = lanes.withdraw(ticket, RequestId(f"r{n}"))
            holder, deliveries = await asyncio.gather(withdrawing, lanes.claim(NODE, [INTERACTIVE], 1))
            assert holder == (NODE if deliveries else None)
            for delivery in deliveries:
                await lanes.settle(delivery.ticket)


class TestPlaces:
    async def test_they_are_in_the_order_of_the_lane_however_fast_they_came(self, broker: Broker) -> None:
        names = [f"r{n:02}" for n in reversed(range(40))]  # within one ms it must not be the names that decide
        tickets = dict(zip(names, await asyncio.gather(*(publish(broker, name) for name in names)), strict=True))
        in_lane = sorted(names, key=lambda name: score_of(tickets[name]))
        assert await Queues(broker).places([(RequestId(name), INTERACTIVE) for name in in_lane]) == [*range(40)]

    async def test_places_move_up_as_others_go(self, broker: Broker) -> None:
        tickets = [await publish(broker, f"r{n}") for n in range(4)]
        asked = [(RequestId(f"r{n}"), INTERACTIVE) for n in range(4)]
        lanes = JobLanes(broker)
        assert await Queues(broker).places(asked) == [0, 1, 2, 3]
        await lanes.withdraw(tickets[1], RequestId("r1"))
        assert await Queues(broker).places([asked[0], asked[2], asked[3]]) == [0, 1, 2]

    async def test_whoever_waits_in_a_more_urgent_lane_is_before_them(self, broker: Broker) -> None:
        for n, lane in enumerate([Lane.BATCH, Lane.BATCH, Lane.INTERACTIVE, Lane.RETRY, Lane.RETRY]):
            await publish(broker, f"r{n}", lane=lane)
        await publish(broker, "other", OTHER_MODEL, Lane.RETRY)
        asked = [(RequestId(f"r{n}"), LaneName(lane, MODEL)) for n, lane in [(4, Lane.RETRY), (2, Lane.INTERACTIVE)]]
        assert await Queues(broker).places([*asked, (R1, LaneName(Lane.BATCH, MODEL))]) == [1, 2, 4]

    async def test_nobody_asked_nobody_told(self, broker: Broker) -> None:
        assert await Queues(broker).places([]) == []


class TestCallOff:
    async def test_a_waiting_request_leaves_nothing_but_its_hash(self, broker: Broker) -> None:
        ticket = await publish(broker, "r1")
        await Requests(broker, TTLS, HUB).call_off(R1, a_job("r1").reply, ticket, None)
        assert await claim_all(broker) == []
        assert await raw(broker).zcard(KEYS.waiting(*INTERACTIVE)) == 0
        assert a_job("r1").reply not in await all_keys(broker)
        assert KEYS.control(NODE) not in await all_keys(broker)

    async def test_a_claimed_one_is_left_to_its_node_which_is_told(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        await Requests(broker, TTLS, HUB).call_off(R1, a_job("r1").reply, ticket, NODE)
        assert await pending(broker, INTERACTIVE) == 1
        assert a_job("r1").reply not in await all_keys(broker)
        _, orders = await ControlStreams(broker).wait(NODE, b"0-0")
        assert orders == [ControlEntry(Order.CANCEL, R1)]

    async def test_a_node_whose_claim_has_not_come_to_the_hub_yet_is_told_too(self, broker: Broker) -> None:
        ticket = await claimed(broker)
        await Requests(broker, TTLS, HUB).call_off(R1, a_job("r1").reply, ticket, None)
        _, orders = await ControlStreams(broker).wait(NODE, b"0-0")
        assert orders == [ControlEntry(Order.CANCEL, R1)]

    @pytest.mark.parametrize("node", [None, NODE])
    async def test_one_whose_job_is_off_its_lane_loses_its_reply(self, broker: Broker, node: NodeId | None) -> None:
        ticket = await claimed(broker)
        await JobLanes(broker).settle(ticket)
        await Requests(broker, TTLS, HUB).call_off(R1, a_job("r1").reply, None, node)
        assert a_job("r1").reply not in await all_keys(broker)
        assert (KEYS.control(NODE) in await all_keys(broker)) == (node is not None)

    async def test_calling_off_twice_is_harmless(self, broker: Broker) -> None:
        ticket = await publish(broker, "r1")
        await publish(broker, "r2")
        for _ in range(2):
            await Requests(broker, TTLS, HUB).call_off(R1, a_job("r1").reply, ticket, None)
        assert requests_of(await claim_all(broker)) == ["r2"]


class TestBury:
    async def test_a_dead_letter_tells_why_and_not_what_was_asked(self, broker: Broker) -> None:
        fields = a_job("r1").to_fields()
        await JobLanes(broker).bury(fields, "a bad signature, naïvely made")
        ((_, letter),) = await raw(broker).xrange(KEYS.dead)
        assert letter[b"reason"].decode() == "a bad signature, naïvely made"
        assert letter[b"id"] == b"r1"
        assert b"body" not in letter
        assert b"sig" not in letter

    async def test_even_an_empty_job_can_be_buried(self, broker: Broker) -> None:
        await JobLanes(broker).bury({}, "trimmed away")
        assert await raw(broker).xlen(KEYS.dead) == 1

    async def test_dead_letters_are_bounded(self, broker: Broker) -> None:
        lanes = JobLanes(broker)
        for n in range(60):
            await asyncio.gather(*(lanes.bury({b"id": b"%d" % n}, "x") for _ in range(20)))
        assert await raw(broker).xlen(KEYS.dead) < 1200
