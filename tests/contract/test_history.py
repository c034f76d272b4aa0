"""The grid's last hour, and looks at a key's books that change nothing in them."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from common.broker.broker import Broker
from common.records.history import FIRST_TOKEN_BOUNDS_MS, STEP_S, TTL_MS, History, first_token_field, minute_of
from common.records.limit_looks import LimitLooks
from common.records.limits import Verb
from common.types import RequestId
from hub.overview.history import quantile_ms, shown_points
from tests.contract.story import KEYS, raw
from tests.contract.test_limits import KEY, a_hub, at_rest, reserve, say

NOW_MS = 1_795_297_554_814
STEP_MS = STEP_S * 1000


async def test_what_hubs_add_to_a_minute_is_summed_and_the_hour_is_read_in_order(broker: Broker) -> None:
    history, now = History(broker), minute_of(NOW_MS)
    await history.add({now: {"requests": 2, "failed": 1, first_token_field(100): 1}, now - STEP_MS: {"requests": 5}})
    await history.add({now: {"requests": 1, first_token_field(100): 1, first_token_field(90_000): 1}})
    await history.add({now - 60 * STEP_MS: {"requests": 9}})  # an hour and more ago
    first, last = await history.read(NOW_MS)
    assert (first.began_at, first.sums["requests"]) == (now - STEP_MS, 5)
    assert (last.began_at, last.sums["requests"], last.sums["failed"], last.sums["retried"]) == (now, 3, 1, 0)
    assert sorted(last.first_tokens.values()) == [1, 2]
    assert 0 < await raw(broker).pttl(KEYS.history(now)) <= TTL_MS


async def test_a_minute_without_first_tokens_tells_none(broker: Broker) -> None:
    history, now = History(broker), minute_of(NOW_MS)
    await history.add({now: {"requests": 1}})
    (point,) = shown_points(await history.read(NOW_MS)).values()
    assert point["requests"] == 1
    assert not [name for name in point if name.startswith("first_token")]


@given(st.lists(st.integers(1, FIRST_TOKEN_BOUNDS_MS[-1]), min_size=1, max_size=60), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_told_to_within_its_bucket(times_ms: list[int], share: float) -> None:
    buckets = Counter(int(first_token_field(one).rpartition(":")[2]) for one in times_ms)
    wanted = sorted(times_ms)[max(0, -(-int(share * 100 * len(times_ms)) // 100) - 1)]
    number = int(first_token_field(wanted).rpartition(":")[2])
    low = FIRST_TOKEN_BOUNDS_MS[number - 1] if number else 0
    assert low <= quantile_ms(buckets, share) <= FIRST_TOKEN_BOUNDS_MS[number]


async def test_a_look_at_a_key_tells_turns_places_and_what_is_left_of_its_minute(broker: Broker) -> None:
    hub, looks = a_hub(broker), LimitLooks(broker)
    key = replace(KEY, concurrency=1, rpm=60, tpm=1000)
    untouched = await looks.key(key, NOW_MS)
    assert (untouched.turns, untouched.waiting, untouched.requests_left, untouched.tokens_left) == (0, 0, 60, 1000)
    for number in range(3):
        await reserve(hub, key, f"r{number}", tokens=100)
    seconds, micros = await raw(broker).time()
    now_ms, books = seconds * 1000 + micros // 1000, await at_rest(hub)
    standing = await looks.key(key, now_ms)
    assert (standing.turns, standing.waiting) == (1, 2)
    assert standing.requests_left is not None
    assert 57 <= standing.requests_left <= 58
    assert standing.tokens_left is not None
    assert 700 <= standing.tokens_left <= 720
    assert [await looks.ahead(key, RequestId(f"r{number}")) for number in range(3)] == [None, 0, 1]
    later = await looks.key(key, now_ms + 30_000)
    assert later.requests_left == 60
    assert await at_rest(hub) == books, "nothing was changed"
    await say(hub, key, Verb.END, "r0")
    assert (await looks.key(key, now_ms)).waiting == 1


async def test_a_key_without_limits_has_none_to_tell_of(broker: Broker) -> None:
    standing = await LimitLooks(broker).key(KEY, NOW_MS)
    assert (standing.requests_left, standing.tokens_left) == (None, None)
