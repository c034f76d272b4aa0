"""A hub's turns: told in batches, woken by other hubs, and never lost where the broker or a ring is."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from common.broker.broker import Broker
from common.errors import BrokerUnavailable
from common.records.credentials import ClientKey
from common.records.limits import NO_SHARES, Limits, LimitSettings, Quota, Saying, Standing, Verb, Verdict
from common.streams.jobs import LaneName
from common.streams.replies import Doorbell
from common.types import HubId, RequestId
from hub.errors import BrokerAway, KeyQueueFull, RateLimited
from hub.requests.turns import Turn, Turns
from hub.settings import HubSettings
from tests.contract.story import at_work, eventually, on_real_brokers
from tests.contract.test_limits import KEY, LANE, NOTHING, SETTINGS, at_rest

ONE = replace(KEY, concurrency=1)


class Watched(Limits):
    """Limits that keep what was said, and fail as often as they are told to, before or after the broker heard it."""

    def __init__(self, broker: Broker, hub: HubId, settings: LimitSettings) -> None:
        super().__init__(broker, hub, settings)
        self.said: list[list[Verb]] = []
        self.failures = 0
        self.losses = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_asked = asyncio.Event()
        self.way_back = asyncio.Event()
        """Of all answers but those to reservations."""
        self.way_back.set()

    async def say(
        self, key: ClientKey, sayings: Sequence[Saying] = (), shares: Mapping[LaneName, int] = NO_SHARES
    ) -> Standing:
        self.is_asked.set()
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("for the test")
        standing = await super().say(key, sayings, shares)
        self.said.append([saying.verb for saying in sayings])
        if Verb.RESERVE not in self.said[-1]:
            await self.way_back.wait()
        if self.losses:
            self.losses -= 1
            raise BrokerUnavailable("the answer was lost, for the test")
        return standing


class HubOfTurns:
    """As much of a hub as has turns."""

    def __init__(self, broker: Broker, name: str = "hub-a", *, lane_share_s: float = 0, **settings: int) -> None:
        self.limits = Watched(broker, HubId(name), replace(SETTINGS, **settings))
        self.turns = Turns(self.limits, HubSettings(limit_lease_s=60, lane_share_s=lane_share_s))
        self.bell = Doorbell(broker, HubId(name))

    async def reserve(self, request: str, key: ClientKey = ONE) -> Turn:
        return await self.turns.reserve(key, RequestId(request), LANE, 0)

    async def at_rest(self) -> bool:
        return await at_rest(self.limits) == NOTHING


async def test_an_end_here_wakes_the_one_that_waits_here(broker: Broker) -> None:
    hub = HubOfTurns(broker)
    first, second = await hub.reserve("r0"), await hub.reserve("r1")
    assert (first.has_come, second.has_come) == (True, False)
    woken = asyncio.Event()
    second.wake = woken.set
    async with at_work(hub.turns.run()):
        hub.turns.end(first)
        async with asyncio.timeout(10):
            await woken.wait()
    assert second.has_come


@on_real_brokers
async def test_an_end_here_rings_the_hub_whose_request_is_next(broker: Broker) -> None:
    here, there = HubOfTurns(broker), HubOfTurns(broker, "hub-b")
    await there.bell.keep(60_000)
    first, second = await here.reserve("r0"), await there.reserve("r1")
    async with at_work(here.turns.run(), there.turns.run()):
        here.turns.end(first)
        while "r1" not in await there.bell.wait(2000):
            pass
        there.turns.look(second)

        async def has_come() -> bool:
            return second.has_come

        await eventually(has_come, "the turn at the other hub")


async def test_who_hears_no_ring_finds_its_turn_by_itself(broker: Broker) -> None:
    here, there = HubOfTurns(broker), HubOfTurns(broker, "hub-b")
    first, second = await here.reserve("r0"), await there.reserve("r1")
    here.turns.end(first)
    await here.turns.finish(10)
    assert not second.has_come
    await there.turns.look_at_all()
    assert second.has_come


async def test_what_happens_at_once_is_told_at_once(broker: Broker) -> None:
    hub = HubOfTurns(broker)
    turns = [await hub.reserve(f"r{n}", KEY) for n in range(10)]
    hub.limits.said.clear()
    for turn in turns[:5]:
        hub.turns.claimed(turn)
    for turn in turns[3:]:
        hub.turns.end(turn)
    await hub.turns.finish(10)
    assert hub.limits.said == [[Verb.RUN] * 3 + [Verb.END] * 7], "one call, and of each request the last word"


async def test_an_answer_that_is_overtaken_tells_no_old_quota(broker: Broker) -> None:
    hub, key = HubOfTurns(broker), replace(KEY, rpm=4)
    first = await hub.reserve("r0", key)
    hub.limits.way_back.clear()
    hub.turns.end(first)
    async with at_work(hub.turns.run()):
        await eventually(lambda: _was_said(hub, Verb.END), "the end to be heard")
        await hub.reserve("r1", key)
        assert _requests_left(hub, key) == 2
        hub.limits.way_back.set()
        async with hub.turns._books[key.id].speaking:  # the answer to the end has come
            pass
        assert _requests_left(hub, key) == 2


async def _was_said(hub: HubOfTurns, verb: Verb) -> bool:
    return [verb] in hub.limits.said


def _requests_left(hub: HubOfTurns, key: ClientKey) -> int:
    quota = hub.turns.quota(key)
    assert quota is not None
    assert quota.requests is not None
    return quota.requests.remaining


@pytest.mark.parametrize("trouble", ["failures", "losses"])
async def test_an_end_that_was_not_heard_is_said_again(broker: Broker, trouble: str) -> None:
    hub = HubOfTurns(broker)
    first, second = await hub.reserve("r0"), await hub.reserve("r1")
    setattr(hub.limits, trouble, 2)
    hub.turns.end(first)
    for _ in range(3):
        await hub.turns.look_at_all()
    assert second.has_come
    hub.turns.end(second)
    await hub.turns.finish(10)
    assert await hub.at_rest()


async def test_what_was_not_heard_is_said_again_by_the_next_look_though_nobody_waits(broker: Broker) -> None:
    hub = HubOfTurns(broker)
    turn = await hub.reserve("r0")
    hub.turns.claimed(turn)
    await hub.turns.finish(10)
    hub.limits.failures = 1
    hub.turns.end(turn)
    await hub.turns.finish(10)
    await hub.turns.look_at_all()
    assert await hub.at_rest()


async def test_a_claim_that_was_not_heard_is_not_said_again_once_it_is_over(broker: Broker) -> None:
    hub = HubOfTurns(broker)
    turn = await hub.reserve("r0")
    hub.limits.said.clear()
    hub.limits.failures = 1
    hub.limits.gate.clear()
    hub.limits.is_asked.clear()
    async with asyncio.TaskGroup() as group:
        hub.turns.claimed(turn)
        group.create_task(hub.turns.finish(10))
        await hub.limits.is_asked.wait()
        hub.turns.end(turn)
        hub.limits.gate.set()
    await hub.turns.finish(10)
    assert hub.limits.said == [[Verb.END]]
    assert await hub.at_rest()


async def test_a_word_waits_until_the_one_before_it_was_heard(broker: Broker) -> None:
    """A claim that arrives after its request's end would bring back a turn that is over."""
    hub = HubOfTurns(broker)
    turn = await hub.reserve("r0")
    hub.limits.gate.clear()
    hub.limits.is_asked.clear()
    async with asyncio.TaskGroup() as group:
        hub.turns.claimed(turn)
        group.create_task(hub.turns.finish(10))
        await hub.limits.is_asked.wait()
        hub.limits.is_asked.clear()
        hub.turns.end(turn)
        group.create_task(hub.turns.finish(10))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not hub.limits.is_asked.is_set()
        hub.limits.gate.set()
    assert await hub.at_rest()


async def test_of_a_reservation_under_way_nothing_is_said_beside_it(broker: Broker) -> None:
    hub = HubOfTurns(broker)
    await hub.reserve("r0")
    hub.limits.said.clear()
    hub.limits.gate.clear()
    hub.limits.is_asked.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(hub.reserve("r1"))
        await hub.limits.is_asked.wait()
        group.create_task(hub.turns.look_at_all())
        for _ in range(10):
            await asyncio.sleep(0)
        hub.limits.gate.set()
    assert sorted(map(tuple, hub.limits.said)) == [(Verb.QUEUE,), (Verb.RESERVE,)]


@pytest.mark.parametrize("trouble", ["failures", "losses"])
async def test_a_reservation_in_vain_leaves_nothing(broker: Broker, trouble: str) -> None:
    hub = HubOfTurns(broker)
    setattr(hub.limits, trouble, 1)
    with pytest.raises(BrokerAway):
        await hub.reserve("r0")
    await hub.turns.look_at_all()
    assert await hub.at_rest()


async def test_who_is_refused_holds_nothing_and_hears_when_to_come_back(broker: Broker) -> None:
    hub = HubOfTurns(broker, max_waiting=0)
    key = replace(ONE, rpm=1)
    held = await hub.reserve("r0", key)
    with pytest.raises(RateLimited) as limited:
        await hub.reserve("r1", key)
    assert limited.value.retry_after_s in (59, 60)
    with pytest.raises(KeyQueueFull):
        await hub.reserve("r2", ONE)
    hub.turns.end(held)
    await hub.turns.look_at_all()
    assert await hub.at_rest()


@pytest.mark.parametrize(
    ("verdict", "wait_ms", "said", "retry_after_s"),
    [(Verdict.NO_REQUESTS, 100, "600 requests", 1), (Verdict.NO_TOKENS, 1200, "60000 tokens", 2)],
)
async def test_who_is_refused_hears_of_its_limit_and_never_comes_back_too_early(
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    verdict: Verdict,
    wait_ms: int,
    said: str,
    retry_after_s: int,
) -> None:
    async def refused(*_: object) -> Standing:
        return Standing([], [], {}, verdict, wait_ms, Quota())

    hub = HubOfTurns(broker)
    monkeypatch.setattr(hub.limits, "say", refused)
    with pytest.raises(RateLimited, match=f"{said} per minute") as limited:
        await hub.reserve("r0", replace(KEY, rpm=600, tpm=60_000))
    assert limited.value.retry_after_s == retry_after_s


async def test_a_request_that_becomes_no_job_asks_nothing_where_no_requests_are_counted(broker: Broker) -> None:
    hub = HubOfTurns(broker)
    await hub.turns.count_request(ONE)
    assert hub.limits.said == []


async def test_a_request_that_becomes_no_job_counts_against_the_minute_alone(broker: Broker) -> None:
    hub, key = HubOfTurns(broker), replace(ONE, rpm=2)
    for _ in range(2):
        await hub.turns.count_request(key)
        await hub.turns.finish(10)
    with pytest.raises(RateLimited):
        await hub.turns.count_request(key)
    await hub.turns.finish(10)
    assert await hub.at_rest()


async def test_what_a_hub_holds_is_renewed_as_it_stands(broker: Broker) -> None:
    hub = HubOfTurns(broker)
    running = await hub.reserve("r0")
    await hub.reserve("r1")
    hub.turns.claimed(running)
    await hub.turns.finish(10)
    hub.limits.said.clear()
    await hub.turns.look_at_all()
    assert hub.limits.said == [[Verb.WAIT]], "what has its turn is renewed now and then, who waits looks every time"


async def test_a_reservation_brings_what_happened_before_it(broker: Broker) -> None:
    """Else a key's share of a lane would be taken by requests that were claimed long ago."""
    hub = HubOfTurns(broker, lane_share=1)
    first = await hub.reserve("r0", KEY)
    hub.turns.claimed(first)
    second = await hub.reserve("r1", KEY)
    assert second.has_come
    assert hub.limits.said == [[Verb.RESERVE], [Verb.RUN, Verb.RESERVE]]


async def test_a_lane_that_is_claimed_from_quickly_has_room_for_more(broker: Broker) -> None:
    """A share is for those who come behind it: where the jobs of a lane go at once, nobody does."""
    hub = HubOfTurns(broker, lane_share=1, lane_share_s=10)
    for n in range(3):
        turn = await hub.reserve(f"r{n}", KEY)
        assert turn.has_come
        hub.turns.claimed(turn)
    at_once = [(await hub.reserve(f"s{n}", KEY)).has_come for n in range(7)]
    assert at_once == [True] * 6 + [False], "twice the three claims of late"


async def test_claims_of_long_ago_give_a_lane_no_more_room(broker: Broker) -> None:
    hub = HubOfTurns(broker, lane_share=1, lane_share_s=0.001)
    for n in range(3):
        hub.turns.claimed(await hub.reserve(f"r{n}", KEY))
    await hub.turns.finish(10)
    await asyncio.sleep(0.01)
    assert [(await hub.reserve(f"s{n}", KEY)).has_come for n in range(2)] == [True, False]


@pytest.mark.parametrize("trouble", ["failures", "losses"])
async def test_what_a_reservation_brought_in_vain_is_said_again(broker: Broker, trouble: str) -> None:
    hub = HubOfTurns(broker)
    claimed, ended = await hub.reserve("r0", KEY), await hub.reserve("r1", KEY)
    hub.turns.claimed(claimed)
    hub.turns.end(ended)
    setattr(hub.limits, trouble, 1)
    with pytest.raises(BrokerAway):
        await hub.reserve("r2", KEY)
    await hub.turns.finish(10)
    assert await at_rest(hub.limits) == {**NOTHING, "turns": 1}
    hub.turns.end(claimed)
    await hub.turns.finish(10)
    assert await hub.at_rest()


async def test_what_may_free_a_turn_that_is_waited_for_is_told_sooner(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.requests.turns.GATHER_S", 60)
    hub = HubOfTurns(broker)
    async with at_work(hub.turns.run()):
        first, second = await hub.reserve("r0"), await hub.reserve("r1")
        hub.turns.end(first)

        async def has_come() -> bool:
            return second.has_come

        await eventually(has_come, "its turn")
