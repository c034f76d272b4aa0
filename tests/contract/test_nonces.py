"""Nonces of direct calls: each is good once, for whichever hub comes first."""

import asyncio
from dataclasses import replace

from common.broker.broker import Broker
from common.keys import Keys
from common.records.nonces import Nonces
from tests.contract.story import KEYS, all_keys, eventually, raw

TTL_MS = 60_000


async def test_a_nonce_is_good_once(broker: Broker) -> None:
    nonces = Nonces(broker)
    assert await nonces.use("alice", "n1", TTL_MS)
    assert not await nonces.use("alice", "n1", TTL_MS)
    assert await nonces.use("alice", "n2", TTL_MS)


async def test_of_many_hubs_that_are_asked_at_once_one_says_yes(broker: Broker) -> None:
    answers = await asyncio.gather(*(Nonces(broker).use("alice", "n1", TTL_MS) for _ in range(20)))
    assert sum(answers) == 1


async def test_keys_do_not_share_their_nonces(broker: Broker) -> None:
    assert await Nonces(broker).use("alice", "n1", TTL_MS)
    assert await Nonces(broker).use("bob", "n1", TTL_MS)


async def test_grids_on_one_broker_do_not_share_theirs(broker: Broker) -> None:
    assert await Nonces(broker).use("alice", "n1", TTL_MS)
    assert await Nonces(replace(broker, keys=Keys("lab:"))).use("alice", "n1", TTL_MS)


async def test_it_is_remembered_as_long_as_told_and_no_longer(broker: Broker) -> None:
    nonces = Nonces(broker)
    await nonces.use("alice", "n1", TTL_MS)
    assert await all_keys(broker) == {KEYS.nonce("alice", "n1")}
    assert 0 < await raw(broker).pttl(KEYS.nonce("alice", "n1")) <= TTL_MS
    await nonces.use("alice", "brief", 50)

    async def is_forgotten() -> bool:
        return KEYS.nonce("alice", "brief") not in await all_keys(broker)

    await eventually(is_forgotten, "the nonce is gone")
    assert await nonces.use("alice", "brief", TTL_MS)


async def test_a_replay_does_not_make_it_live_longer(broker: Broker) -> None:
    nonces = Nonces(broker)
    await nonces.use("alice", "n1", 10_000)
    await nonces.use("alice", "n1", TTL_MS)
    assert await raw(broker).pttl(KEYS.nonce("alice", "n1")) <= 10_000
