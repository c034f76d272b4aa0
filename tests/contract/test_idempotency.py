"""Idempotency-Keys in the broker: of many that come with one, one makes the request, and the others hear of it."""

import asyncio

from common.broker.broker import Broker
from common.records.idempotency import Asked, Held, IdempotencyKeys, body_digest, key_digest
from common.types import KeyId, RequestId
from tests.contract.story import KEYS, all_keys, eventually, flush, forget_scripts, hash_of, raw

DIGEST = key_digest(None, "key")
BODY = body_digest("/v1/chat/completions", b"{}")
TTL_MS = 60_000


def held(request: str, body: str = BODY) -> Held:
    return Held(DIGEST, Asked(RequestId(request), body))


async def claim(
    broker: Broker, request: str, *, body: str = BODY, ttl_ms: int = TTL_MS, instead_of: str | None = None
) -> str:
    """Which request the key stands for after this one has asked."""
    given_up = None if instead_of is None else RequestId(instead_of)
    wanted = held(request, body)
    stands_for = await IdempotencyKeys(broker).claim(wanted, now_ms=1, ttl_ms=ttl_ms, instead_of=given_up)
    return stands_for.request


async def test_the_first_has_it_and_the_second_hears_of_the_first(broker: Broker) -> None:
    keys = IdempotencyKeys(broker)
    assert await keys.claim(held("r1"), now_ms=1, ttl_ms=TTL_MS) == held("r1").asked
    assert await keys.claim(held("r2", "other"), now_ms=2, ttl_ms=TTL_MS) == held("r1").asked
    assert await hash_of(broker, KEYS.idempotency(DIGEST)) == {"request": "r1", "body": BODY, "created_at": "1"}


async def test_of_many_that_ask_at_once_all_hear_of_the_same(broker: Broker) -> None:
    assert len(set(await asyncio.gather(*(claim(broker, f"r{n}") for n in range(20))))) == 1


async def test_asking_twice_after_a_lost_answer_changes_nothing(broker: Broker) -> None:
    assert await claim(broker, "r1") == "r1"
    assert await claim(broker, "r1") == "r1"


async def test_of_many_that_give_the_same_request_up_one_is_made_in_its_stead(broker: Broker) -> None:
    await claim(broker, "r0")
    found = await asyncio.gather(*(claim(broker, f"r{n}", instead_of="r0") for n in range(1, 20)))
    assert len(set(found)) == 1
    assert found[0] != "r0"


async def test_another_request_than_the_one_given_up_stays(broker: Broker) -> None:
    await claim(broker, "r1")
    assert await claim(broker, "r2", instead_of="r0") == "r1"


async def test_a_record_without_its_body_stands_for_nothing(broker: Broker) -> None:
    await raw(broker).hset(KEYS.idempotency(DIGEST), "request", "r0")
    assert await claim(broker, "r1") == "r1"


async def test_it_lives_as_long_as_it_is_kept(broker: Broker) -> None:
    await claim(broker, "r1", ttl_ms=TTL_MS)
    await IdempotencyKeys(broker).keep([held("r1")], 5 * TTL_MS)
    assert await raw(broker).pttl(KEYS.idempotency(DIGEST)) > TTL_MS
    await IdempotencyKeys(broker).keep([held("r1")], 20)

    async def is_forgotten() -> bool:
        return KEYS.idempotency(DIGEST) not in await all_keys(broker)

    await eventually(is_forgotten, "the record is gone")
    assert await claim(broker, "r2") == "r2"


async def test_whoever_no_longer_has_it_can_neither_keep_nor_drop_it(broker: Broker) -> None:
    await claim(broker, "r2", ttl_ms=TTL_MS)
    keys = IdempotencyKeys(broker)
    await keys.keep([held("r1")], 10 * TTL_MS)
    await keys.drop(held("r1"))
    assert 0 < await raw(broker).pttl(KEYS.idempotency(DIGEST)) <= TTL_MS
    await keys.drop(held("r2"))
    assert KEYS.idempotency(DIGEST) not in await all_keys(broker)


async def test_what_a_broker_has_lost_is_made_again_for_a_request_that_runs(broker: Broker) -> None:
    await claim(broker, "r1")
    await flush(broker)
    await IdempotencyKeys(broker).keep([held("r1")], TTL_MS)
    assert await claim(broker, "r2") == "r1"
    await flush(broker)
    await IdempotencyKeys(broker).drop(held("r1"))
    assert await all_keys(broker) == set()


def test_whoever_takes_a_request_over_reads_which_key_stands_for_it() -> None:
    assert Held.parse(RequestId("r1"), held("r1").to_text()) == held("r1")
    for text in ("", ":", "a:", ":b", "a"):
        assert Held.parse(RequestId("r1"), text) is None


async def test_keeping_nothing_asks_nothing(broker: Broker) -> None:
    await IdempotencyKeys(broker).keep([], TTL_MS)
    assert await all_keys(broker) == set()


async def test_a_broker_that_forgot_its_scripts_keeps_and_drops_all_the_same(broker: Broker) -> None:
    await claim(broker, "r1")
    await forget_scripts(broker)
    await IdempotencyKeys(broker).keep([held("r1")], 5 * TTL_MS)
    assert await raw(broker).pttl(KEYS.idempotency(DIGEST)) > TTL_MS
    await forget_scripts(broker)
    await IdempotencyKeys(broker).drop(held("r1"))
    await forget_scripts(broker)
    assert await claim(broker, "r2") == "r2"


def test_clients_do_not_share_their_keys_and_paths_do_not_share_their_bodies() -> None:
    assert len({key_digest(owner, key) for owner in (None, KeyId("a"), KeyId("b")) for key in ("k", "ka")}) == 6
    assert body_digest("/v1/completions", b"{}") != body_digest("/v1/chat/completions", b"{}")
    assert body_digest("/v1/completions", b"{}") != body_digest("/v1/completions", b"{ }")
