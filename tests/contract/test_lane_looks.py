"""Looks at lanes: how they stand, who holds jobs of them, and jobs without their bodies."""

import asyncio
from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from common.broker.broker import Broker
from common.errors import BrokerRefused
from common.streams.jobs import JobLanes, LaneName, Ticket
from common.streams.lane_looks import UNREADABLE, LaneLooks
from common.streams.replies import ReplyStreams, ReplyWrite
from common.types import Lane, ModelId, NodeId, RequestId
from common.wire import EntryId, ReplyEntry
from tests.contract.story import HUB, KEYS, LANES, MODEL, NODE, OTHER_MODEL, a_job, claim_all, pending, publish, raw

LANE = LaneName(Lane.INTERACTIVE, MODEL)
OTHER = NodeId("node-2")


async def test_a_lane_stands_as_jobs_wait_and_are_claimed(broker: Broker) -> None:
    looks = LaneLooks(broker)
    assert await looks.standings([]) == []
    assert await looks.standings([LANE]) == [], "nobody made it"
    first = await publish(broker, "r1")
    (standing,) = await looks.standings([LANE])
    assert (standing.waiting, standing.claimed, standing.newest_claimed) == (1, 0, b"0-0")
    await claim_all(broker)
    await publish(broker, "r2")
    (standing,) = await looks.standings([LANE])
    assert (standing.waiting, standing.claimed, standing.newest_claimed) == (1, 1, first.entry)
    assert await looks.holders(LANE) == [NODE]


async def test_what_is_no_lane_hides_none(broker: Broker) -> None:
    await publish(broker, "r1")
    odd = [LaneName(Lane.RETRY, MODEL), LaneName(Lane.BATCH, MODEL), LaneName(Lane.BATCH, OTHER_MODEL)]
    await raw(broker).set(KEYS.lane(*odd[0]), "text")
    await raw(broker).xadd(KEYS.lane(*odd[1]), {"a": "b"})  # without its group
    assert [one.lane for one in await LaneLooks(broker).standings([*odd, LANE])] == [LANE]


async def test_a_broker_that_is_busy_has_lost_no_lane(own_broker: Broker) -> None:
    """It says so in answer to every question, as if each were refused by itself."""
    await publish(own_broker, "r1")
    await raw(own_broker).config_set("lua-time-limit", 1)
    endless = asyncio.create_task(raw(own_broker).eval("while true do end", 0))
    try:
        with pytest.raises(BrokerRefused, match="BUSY"):
            await _see_it(own_broker)
    finally:
        await raw(own_broker).script_kill()
        await asyncio.wait([endless])
    assert isinstance(endless.exception(), ResponseError)


async def _see_it(broker: Broker) -> None:
    while True:
        assert [one.lane for one in await LaneLooks(broker).standings([LANE])] == [LANE]


async def test_a_job_is_seen_without_its_body(broker: Broker) -> None:
    ticket = await publish(broker, "r1")
    job = await LaneLooks(broker).glimpse(ticket)
    assert job is not None
    assert (job.ticket, job.request, job.attempt, job.reply) == (ticket, "r1", 1, a_job("r1").reply)
    assert job.deadline_ms == a_job("r1").deadline_ms
    assert await LaneLooks(broker).glimpse(Ticket(LANE, b"1-1")) is None


async def test_jobs_behind_an_entry_come_in_their_order(broker: Broker) -> None:
    tickets = [await publish(broker, f"r{number}") for number in range(5)]
    jobs = await LaneLooks(broker).behind(LANE, tickets[0].entry, 3)
    assert [job.request for job in jobs] == ["r1", "r2", "r3"]
    assert await LaneLooks(broker).behind(LANE, tickets[-1].entry, 3) == []


async def test_a_job_that_is_nonsense_is_told_as_far_as_it_can_be_read(broker: Broker) -> None:
    await JobLanes(broker).ensure(LANES)
    for fields in ({"odd": "1"}, {"id": b"\xff", "attempt": "-1", "deadline": "9" * 30, "reply": "x"}):
        await raw(broker).xadd(KEYS.lane(*LANE), fields)
    jobs = await LaneLooks(broker).behind(LANE, b"0-0", 10)
    assert [(job.attempt, job.deadline_ms, job.reply) for job in jobs] == [(None, None, ""), (None, None, "x")]


async def test_only_jobs_that_a_node_has_held_for_long_are_told(broker: Broker) -> None:
    ticket = await publish(broker, "r1")
    await claim_all(broker)
    await publish(broker, "r2")
    await claim_all(broker, node=OTHER)
    looks = LaneLooks(broker)
    assert await looks.claimed_by(LANE, NODE, 0, 10) == [ticket]
    assert await looks.claimed_by(LANE, NODE, 60_000, 10) == []


async def test_the_newest_entry_of_a_reply_says_which_attempt_works_on_it(broker: Broker) -> None:
    await publish(broker, "r1")
    await publish(broker, "r2")
    write = ReplyWrite(a_job("r2").reply, KEYS.doorbell(HUB), RequestId("r2"), EntryId(2, 0), ReplyEntry(claim=NODE))
    await ReplyStreams(broker).write([write])
    await raw(broker).set("ghub:odd", "text")
    replies = [a_job("r1").reply, a_job("r2").reply, a_job("r3").reply, "ghub:odd"]
    assert await LaneLooks(broker).newest_entries(replies) == [EntryId(0, 1), EntryId(2, 0), None, UNREADABLE]
    assert await LaneLooks(broker).newest_entries([]) == []


async def test_a_node_that_holds_a_job_is_not_forgotten_by_its_lane(broker: Broker) -> None:
    """Its job would go with it, and never be seen again."""
    looks, ticket = LaneLooks(broker), await publish(broker, "r1")
    await claim_all(broker)
    await JobLanes(broker).claim(OTHER, LANES, 5)
    assert not await looks.forget_consumer(LANE, NODE)
    assert await pending(broker, LANE) == 1
    await JobLanes(broker).settle(ticket, "r1")
    assert await looks.forget_consumer(LANE, NODE)
    assert NODE not in [one.node for one in await looks.consumers(LANE)]


async def test_jobs_of_other_models_are_not_in_the_way(broker: Broker) -> None:
    odd = replace(a_job("r1"), model=ModelId("other"))
    ticket = await publish(broker, odd.id, odd.model)
    job = await LaneLooks(broker).glimpse(ticket)
    assert job is not None
    assert job.ticket.lane.model == "other"
