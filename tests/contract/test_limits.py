"""The limits of a client key: shared by hubs without a race, and free again whatever becomes of those who took."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from common.broker.broker import Broker
from common.records import limits as limits_module
from common.records.credentials import ClientKey
from common.records.limits import Limits, LimitSettings, Saying, Standing, Verb, Verdict
from common.streams.jobs import LaneName
from common.streams.replies import Doorbell
from common.types import HubId, Lane, ModelId, RequestId
from tests.contract.story import KEYS, MODEL, OTHER_MODEL, all_keys, eventually, flush, on_real_brokers, raw

KEY = ClientKey(digest="ab" * 32, name="test", created_at=0)
LANE = LaneName(Lane.INTERACTIVE, MODEL)
BATCH = LaneName(Lane.BATCH, MODEL)
OTHER_LANE = LaneName(Lane.INTERACTIVE, OTHER_MODEL)
SETTINGS = LimitSettings(lane_share=16, max_waiting=500, lease_ms=60_000, ttl_ms=120_000)


def a_hub(broker: Broker, name: str = "hub-a", **settings: int) -> Limits:
    return Limits(broker, HubId(name), replace(SETTINGS, **settings))


async def reserve(hub: Limits, key: ClientKey, request: str, lane: LaneName = LANE, tokens: int = 0) -> Standing:
    return await hub.say(key, [Saying(Verb.RESERVE, RequestId(request), lane, tokens)])


async def say(
    hub: Limits, key: ClientKey, verb: Verb, request: str, lane: LaneName = LANE, tokens: int = -1
) -> Standing:
    return await hub.say(key, [Saying(verb, RequestId(request), lane, tokens)])


def names(standing: Standing) -> list[str]:
    return [request for request, _ in standing.granted]


async def at_rest(hub: Limits) -> dict[str, int]:
    """How many requests stand in each of the books of `KEY`."""
    books = ("turns", "unclaimed", "waiting")
    return {book: int(await hub._line.say("ZCARD", hub._keys.limit(KEY.id, book))) for book in books}


NOTHING = {"turns": 0, "unclaimed": 0, "waiting": 0}


class TestTurns:
    async def test_as_many_as_may_run_have_their_turn_at_once_and_the_next_wait(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=2)
        verdicts = [(await reserve(hub, key, f"r{n}")).verdict for n in range(4)]
        assert verdicts == [Verdict.TURN, Verdict.TURN, Verdict.WAIT, Verdict.WAIT]

    async def test_an_end_gives_the_turn_to_the_one_that_waited_longest(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        for n in range(3):
            await reserve(hub, key, f"r{n}")
        assert names(await say(hub, key, Verb.END, "r0")) == ["r1"]
        assert names(await say(hub, key, Verb.END, "r1")) == ["r2"]
        assert names(await say(hub, key, Verb.END, "r2")) == []
        assert await at_rest(hub) == NOTHING

    async def test_one_that_leaves_while_it_waits_is_passed_over(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        for n in range(3):
            await reserve(hub, key, f"r{n}")
        await say(hub, key, Verb.END, "r1")
        assert names(await say(hub, key, Verb.END, "r0")) == ["r2"]

    async def test_who_waits_hears_how_many_of_its_own_go_first(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        await reserve(hub, key, "r0")
        await say(hub, key, Verb.RUN, "r0")
        told = [(await reserve(hub, key, f"r{n}")).places for n in (1, 2, 3)]
        assert told == [{"r1": 0}, {"r2": 1}, {"r3": 2}]

    async def test_its_place_counts_those_of_its_own_that_lie_in_its_lane_too(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=2)
        for n, lane in enumerate((LANE, OTHER_LANE)):
            await reserve(hub, key, f"r{n}", lane)
        assert (await reserve(hub, key, "r2")).places == {"r2": 1}

    async def test_one_that_says_that_it_still_waits_keeps_its_place(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        for name in ("running", "first", "second"):
            await reserve(hub, key, name)
        await say(hub, key, Verb.WAIT, "first")
        assert names(await say(hub, key, Verb.END, "running")) == ["first"]

    async def test_an_urgent_one_goes_before_those_of_a_less_urgent_lane(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        await reserve(hub, key, "running")
        await reserve(hub, key, "batch", BATCH)
        await reserve(hub, key, "urgent")
        assert names(await say(hub, key, Verb.END, "running")) == ["urgent"]

    async def test_no_more_wait_than_may(self, broker: Broker) -> None:
        hub, key = a_hub(broker, max_waiting=2), replace(KEY, concurrency=1, rpm=100)
        standings = [await reserve(hub, key, f"r{n}") for n in range(4)]
        assert [one.verdict for one in standings] == [Verdict.TURN, Verdict.WAIT, Verdict.WAIT, Verdict.FULL]
        allowances = [one.quota.requests for one in standings]
        assert [one.remaining for one in allowances if one] == [99, 98, 97, 97], "what is refused is not counted"
        assert (await at_rest(hub))["waiting"] == 2

    async def test_two_hubs_that_race_take_no_more_than_there_are(self, broker: Broker) -> None:
        hubs, key = [a_hub(broker, name) for name in ("hub-a", "hub-b")], replace(KEY, concurrency=5)
        standings = await asyncio.gather(*(reserve(hubs[n % 2], key, f"r{n}") for n in range(60)))
        verdicts = [one.verdict for one in standings]
        assert (verdicts.count(Verdict.TURN), verdicts.count(Verdict.WAIT)) == (5, 55)

    async def test_under_many_hands_no_turn_is_lost_and_none_is_given_twice(self, broker: Broker) -> None:
        hubs, key = [a_hub(broker, name) for name in ("hub-a", "hub-b")], replace(KEY, concurrency=4)
        ready: asyncio.Queue[str] = asyncio.Queue()
        running, most, done = 0, 0, 0

        async def come(n: int) -> None:
            standing = await reserve(hubs[n % 2], key, f"r{n}")
            for name in names(standing):
                ready.put_nowait(name)

        async def serve() -> None:
            nonlocal running, most, done
            while (name := await ready.get()) != "over":
                running += 1
                most = max(most, running)
                await say(hubs[0], key, Verb.RUN, name)
                running -= 1
                for freed in names(await say(hubs[1], key, Verb.END, name)):
                    ready.put_nowait(freed)
                done += 1
                if done == 80:
                    for _ in range(8):
                        ready.put_nowait("over")

        async with asyncio.timeout(20):
            workers = [asyncio.create_task(serve()) for _ in range(8)]
            await asyncio.gather(*(come(n) for n in range(80)))
            await asyncio.gather(*workers)
        assert done == 80
        assert most <= 4
        assert await at_rest(hubs[0]) == NOTHING

    async def test_an_end_that_is_said_twice_frees_one_turn(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        for n in range(3):
            await reserve(hub, key, f"r{n}")
        assert names(await say(hub, key, Verb.END, "r0")) == ["r1"]
        assert names(await say(hub, key, Verb.END, "r0")) == []

    async def test_limits_that_are_raised_let_those_in_who_wait(self, broker: Broker) -> None:
        hub = a_hub(broker)
        for n in range(4):
            await reserve(hub, replace(KEY, concurrency=1), f"r{n}")
        assert names(await hub.say(replace(KEY, concurrency=3))) == ["r1", "r2"]

    async def test_keys_do_not_hinder_one_another(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        await reserve(hub, key, "r0")
        assert (await reserve(hub, replace(key, digest="cd" * 32), "r1")).verdict is Verdict.TURN


class TestShareOfALane:
    async def test_only_its_share_waits_in_a_lane_and_a_claim_lets_the_next_in(self, broker: Broker) -> None:
        hub = a_hub(broker, lane_share=2)
        verdicts = [(await reserve(hub, KEY, f"r{n}")).verdict for n in range(4)]
        assert verdicts == [Verdict.TURN, Verdict.TURN, Verdict.WAIT, Verdict.WAIT]
        assert names(await say(hub, KEY, Verb.RUN, "r1")) == ["r2"]
        assert await at_rest(hub) == {"turns": 3, "unclaimed": 2, "waiting": 1}

    async def test_each_lane_of_each_model_has_its_own_share(self, broker: Broker) -> None:
        hub = a_hub(broker, lane_share=1)
        for n, lane in enumerate((LANE, BATCH, OTHER_LANE)):
            assert (await reserve(hub, KEY, f"r{n}", lane)).verdict is Verdict.TURN
            assert (await reserve(hub, KEY, f"late{n}", lane)).verdict is Verdict.WAIT
        assert names(await say(hub, KEY, Verb.RUN, "r2", OTHER_LANE)) == ["late2"]

    async def test_only_the_lane_that_may_have_more_gets_more(self, broker: Broker) -> None:
        hub = a_hub(broker, lane_share=1)
        for n, lane in enumerate((LANE, OTHER_LANE)):
            for nth in range(4):
                await reserve(hub, KEY, f"r{n}-{nth}", lane)
        assert names(await hub.say(KEY, [], {LANE: 3})) == ["r0-1", "r0-2"]

    async def test_no_lane_has_less_than_its_share(self, broker: Broker) -> None:
        hub = a_hub(broker, lane_share=2)
        await hub.say(KEY, [Saying(Verb.RESERVE, RequestId("r0"), LANE)], {LANE: 1})
        standing = await hub.say(KEY, [Saying(Verb.RESERVE, RequestId("r1"), LANE)], {LANE: 1})
        assert standing.verdict is Verdict.TURN


class TestMinute:
    async def test_requests_of_a_minute_are_used_up_and_it_tells_when_there_is_one_again(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, rpm=3)
        standings = [await reserve(hub, key, f"r{n}") for n in range(4)]
        assert [one.verdict for one in standings] == [Verdict.TURN] * 3 + [Verdict.NO_REQUESTS]
        assert 15_000 < standings[3].wait_ms <= 20_000
        left = standings[3].quota.requests
        assert left is not None
        assert (left.limit, left.remaining) == (3, 0)
        assert 55_000 < left.full_in_ms <= 60_000

    async def test_after_the_time_it_told_there_is_one_again(self, broker: Broker) -> None:
        hub, key = a_hub(broker, lane_share=1000), replace(KEY, rpm=600)
        refused = await hub.say(key, [Saying(Verb.RESERVE, RequestId(f"r{n}"), LANE, 0) for n in range(601)])
        assert refused.verdict is Verdict.NO_REQUESTS
        await asyncio.sleep(refused.wait_ms / 1000)
        assert (await reserve(hub, key, "later")).verdict is Verdict.TURN

    async def test_tokens_are_set_aside_and_corrected_to_what_was_used(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, tpm=1000)
        assert (await reserve(hub, key, "r0", tokens=900)).verdict is Verdict.TURN
        refused = await reserve(hub, key, "r1", tokens=600)
        assert refused.verdict is Verdict.NO_TOKENS
        assert 25_000 < refused.wait_ms <= 30_000
        settled = (await say(hub, key, Verb.END, "r0", tokens=100)).quota.tokens
        assert settled is not None
        assert 900 <= settled.remaining <= 905
        assert (await reserve(hub, key, "r2", tokens=600)).verdict is Verdict.TURN

    async def test_what_was_used_beyond_the_estimate_is_owed(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, tpm=1000)
        await reserve(hub, key, "r0", tokens=10)
        await say(hub, key, Verb.END, "r0", tokens=2000)
        refused = await reserve(hub, key, "r1", tokens=1000)
        assert refused.verdict is Verdict.NO_TOKENS
        assert 115_000 < refused.wait_ms <= 120_000

    async def test_a_request_larger_than_a_minute_takes_all_of_it(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, tpm=1000)
        assert (await reserve(hub, key, "r0", tokens=50_000)).verdict is Verdict.TURN
        assert (await reserve(hub, key, "r1", tokens=500)).verdict is Verdict.NO_TOKENS

    async def test_it_owes_what_it_used_beyond_the_minute_that_it_took(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, tpm=1000)
        await reserve(hub, key, "r0", tokens=50_000)
        await say(hub, key, Verb.RUN, "r0", tokens=50_000)
        refused = await reserve(hub, key, "r1", tokens=500)
        assert 25_000 < refused.wait_ms <= 30_000, "one minute was taken for it, not fifty"
        await say(hub, key, Verb.END, "r0", tokens=1500)
        refused = await reserve(hub, key, "r1", tokens=500)
        assert refused.verdict is Verdict.NO_TOKENS
        assert 55_000 < refused.wait_ms <= 60_000

    async def test_a_limit_that_is_lowered_leaves_no_more_than_it_says(self, broker: Broker) -> None:
        hub = a_hub(broker)
        await reserve(hub, replace(KEY, rpm=1000), "r0")
        quota = (await reserve(hub, replace(KEY, rpm=10), "r1")).quota.requests
        assert quota is not None
        assert (quota.limit, quota.remaining) == (10, 9)

    @pytest.mark.parametrize("used", [-1, 300])
    async def test_an_end_that_is_said_twice_is_settled_once(self, broker: Broker, used: int) -> None:
        hub, key = a_hub(broker), replace(KEY, tpm=1000)
        await reserve(hub, key, "r0", tokens=400)
        first = (await say(hub, key, Verb.END, "r0", tokens=used)).quota.tokens
        second = (await say(hub, key, Verb.END, "r0", tokens=used)).quota.tokens
        assert first is not None
        assert second is not None
        assert first.remaining in range(1000 - (400 if used < 0 else used), 1000 - (400 if used < 0 else used) + 5)
        assert 0 <= second.remaining - first.remaining <= 5

    async def test_two_hubs_share_one_minute(self, broker: Broker) -> None:
        hubs, key = [a_hub(broker, name) for name in ("hub-a", "hub-b")], replace(KEY, rpm=10)
        standings = await asyncio.gather(*(reserve(hubs[n % 2], key, f"r{n}") for n in range(30)))
        assert [one.verdict for one in standings].count(Verdict.TURN) == 10

    async def test_a_key_without_limits_has_no_quota(self, broker: Broker) -> None:
        standing = await reserve(a_hub(broker), KEY, "r0")
        assert (standing.quota.requests, standing.quota.tokens) == (None, None)

    async def test_a_limit_that_is_set_later_begins_full(self, broker: Broker) -> None:
        hub = a_hub(broker)
        for n in range(5):
            await reserve(hub, KEY, f"r{n}", tokens=100)
        quota = (await reserve(hub, replace(KEY, rpm=10, tpm=1000), "late", tokens=100)).quota
        assert quota.requests is not None
        assert quota.tokens is not None
        assert (quota.requests.remaining, quota.tokens.remaining) == (9, 900)


class TestHubsThatDie:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits_module, "GRACE_MS", 60)

    async def test_what_it_held_is_told_as_an_orphan_and_then_comes_free(self, broker: Broker) -> None:
        key = replace(KEY, concurrency=1)
        dead, other = a_hub(broker, "hub-dead", lease_ms=60), a_hub(broker, "hub-b")
        await reserve(dead, key, "lost")
        await reserve(other, key, "waits")
        seen: list[str] = []

        async def is_free() -> bool:
            standing = await say(other, key, Verb.WAIT, "waits")
            seen.extend(f"orphan {hub}" for _, hub in standing.orphans)
            seen.extend(f"turn of {name}" for name in names(standing))
            return "waits" in names(standing)

        await eventually(is_free, "the dead hub's turn given to another")
        assert seen == ["orphan hub-dead", "turn of waits"], "first its reply is ended, then its turn is given"

    async def test_its_waiting_requests_hold_up_nobody(self, broker: Broker) -> None:
        key = replace(KEY, concurrency=1)
        dead, other = a_hub(broker, "hub-dead", lease_ms=60), a_hub(broker, "hub-b")
        await reserve(other, key, "running")
        await reserve(dead, key, "lost")
        await reserve(other, key, "waits")

        async def is_alone() -> bool:
            return (await say(other, key, Verb.RUN, "running")).granted == [] and (await at_rest(other))["waiting"] == 1

        await eventually(is_alone, "the dead hub's request out of the line")
        assert names(await say(other, key, Verb.END, "running")) == ["waits"]

    async def test_a_hub_that_comes_back_in_time_keeps_what_it_holds(self, broker: Broker) -> None:
        """As after an outage of the broker: the hub that is back first must not end what the others hold."""
        key = replace(KEY, concurrency=1)
        late, other = a_hub(broker, "hub-late", lease_ms=1), a_hub(broker, "hub-b")
        await reserve(late, key, "held")
        await asyncio.sleep(0.005)
        assert (await say(other, key, Verb.WAIT, "waits")).orphans == [], "it is marked, and no more"
        patient = a_hub(broker, "hub-late")
        await say(patient, key, Verb.RUN, "held")
        await asyncio.sleep(0.07)
        standing = await say(other, key, Verb.WAIT, "waits")
        assert (standing.orphans, standing.granted) == ([], [])

    async def test_a_broker_that_forgot_all_learns_it_from_the_hubs(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=2)
        for n in range(4):
            await reserve(hub, key, f"r{n}")
        await flush(broker)
        sayings = [(Verb.RUN, "r0"), (Verb.QUEUE, "r1"), (Verb.WAIT, "r2"), (Verb.WAIT, "r3")]
        await hub.say(key, [Saying(verb, RequestId(name), LANE) for verb, name in sayings])
        assert await at_rest(hub) == {"turns": 2, "unclaimed": 1, "waiting": 2}
        assert names(await say(hub, key, Verb.END, "r0")) == ["r2"]

    async def test_who_waited_together_waits_in_the_same_order_after_it_forgot_all(self, broker: Broker) -> None:
        hub, key = a_hub(broker), replace(KEY, concurrency=1)
        line = [RequestId(f"r{n}") for n in (9, 5, 7, 1, 3)]
        sayings = [Saying(Verb.RUN, RequestId("runs"), LANE), *(Saying(Verb.WAIT, name, LANE) for name in line)]
        assert (await hub.say(key, sayings)).places == {name: place for place, name in enumerate(line)}

    async def test_an_orphan_s_reply_goes_and_the_next_one_s_hub_hears_its_doorbell(self, broker: Broker) -> None:
        hub = a_hub(broker)
        bell = Doorbell(broker, HubId("hub-b"))
        await bell.keep(60_000)
        gone = KEYS.reply(HubId("hub-dead"), RequestId("lost"))
        await raw(broker).xadd(gone, {"open": "1"})
        standing = await reserve(hub, KEY, "r0")
        told = replace(
            standing,
            granted=[(RequestId("next"), HubId("hub-b")), (RequestId("dead"), HubId("hub-dead"))],
            orphans=[(RequestId("lost"), HubId("hub-dead"))],
        )
        await hub.pass_on(told)
        assert await bell.wait(1) == {"next"}
        assert not {gone, KEYS.doorbell(HubId("hub-dead"))} & await all_keys(broker)


async def test_every_book_ends_by_itself_and_all_of_a_key_share_a_slot(broker: Broker) -> None:
    hub, key = a_hub(broker, lane_share=1), replace(KEY, rpm=10, tpm=1000)
    await reserve(hub, key, "r0", tokens=5)
    await reserve(hub, key, "r1", tokens=5)
    books = await all_keys(broker)
    assert {book.rpartition(":")[2] for book in books} == {
        *("bucket", "turns", "unclaimed", "waiting", "leases", "requests")
    }
    assert all(book.startswith(f"ghub:limit:{{{KEY.id}}}:") for book in books)
    assert all([await raw(broker).pttl(book) > 0 for book in books])


async def test_at_rest_nothing_is_left(broker: Broker) -> None:
    hub, key = a_hub(broker), replace(KEY, concurrency=2)
    for n in range(5):
        await reserve(hub, key, f"r{n}", tokens=10)
    await hub.say(key, [Saying(Verb.END, RequestId(f"r{n}"), LANE) for n in range(5)])
    assert await all_keys(broker) == set()


@on_real_brokers
async def test_one_reservation_is_cheap_beside_a_long_line(broker: Broker) -> None:
    """With five hundred of one key waiting the broker does little more for the next than with ten."""
    hub, key = a_hub(broker, max_waiting=1000), replace(KEY, concurrency=1)

    async def cost_us(name: str, count: int) -> float:
        await raw(broker).config_resetstat()
        for n in range(count):
            await reserve(hub, key, f"{name}{n}")
        return float((await raw(broker).info("commandstats"))["cmdstat_evalsha"]["usec_per_call"])

    await cost_us("first", 10)
    short = await cost_us("short", 50)
    await cost_us("many", 440)
    assert await cost_us("long", 50) < 4 * short


async def test_a_model_s_name_may_hold_anything(broker: Broker) -> None:
    hub, key = a_hub(broker), replace(KEY, concurrency=1)
    for model in ("two words", "a\nline", "0 0 0", "模型", "%s"):
        lane = LaneName(Lane.BATCH, ModelId(model))
        assert (await reserve(hub, key, "r0", lane, tokens=3)).verdict is Verdict.TURN
        assert (await reserve(hub, key, "r1", lane)).verdict is Verdict.WAIT
        assert names(await say(hub, key, Verb.END, "r0", lane)) == ["r1"]
        await say(hub, key, Verb.END, "r1", lane)


async def test_turns_come_in_the_order_of_arrival_over_all_hubs(broker: Broker) -> None:
    hubs, key = [a_hub(broker, name) for name in ("hub-a", "hub-b")], replace(KEY, concurrency=1)
    requests = [f"r{n}" for n in range(6)]
    for n, request in enumerate(requests):
        await reserve(hubs[n % 2], key, request)
    for before, after in pairwise(requests):
        assert names(await say(hubs[0], key, Verb.END, before)) == [after]
