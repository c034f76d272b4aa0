"""Keys and tokens as every broker keeps them: whole, without their secrets, and back after it has forgotten all."""

from dataclasses import replace

import pytest

from common.broker.broker import Broker
from common.errors import BrokerRefused
from common.records.credentials import ClientKey, Credentials, ProviderToken, digest_of, new_secret
from common.types import Lane
from hub.access.credential_table import CredentialTable
from tests.contract.story import all_keys, flush

SECRET = new_secret("ghub-")
KEY = ClientKey(
    digest_of(SECRET),
    "front desk",
    created_at=1_700_000_000_000,
    models=("llama*", "münchen:1b"),
    rpm=10,
    tpm=1000,
    concurrency=2,
    lane=Lane.BATCH,
    expires_at=1_800_000_000_000,
)
TOKEN_SECRET = new_secret("ghubp-")
TOKEN = ProviderToken(digest_of(TOKEN_SECRET), "desk", created_at=1_700_000_000_000)


async def test_what_was_written_is_read_back_whole(broker: Broker) -> None:
    credentials = Credentials(broker)
    bare = ClientKey(digest_of("bare"), "bare", created_at=1)
    for key in (KEY, bare):
        await credentials.add_key(key)
    await credentials.add_token(TOKEN)
    assert {key.name: key for key in await credentials.client_keys()} == {"front desk": KEY, "bare": bare}
    assert await credentials.provider_tokens() == [TOKEN]


async def test_every_change_moves_the_version(broker: Broker) -> None:
    credentials = Credentials(broker)
    seen = [await credentials.version()]
    for change in (
        credentials.add_key(KEY),
        credentials.add_token(TOKEN),
        credentials.remove_key(KEY.digest),
        credentials.remove_token(TOKEN.digest),
    ):
        await change
        seen.append(await credentials.version())
    assert seen == [0, 1, 2, 3, 4]
    assert await credentials.client_keys() == []
    assert await credentials.provider_tokens() == []


async def test_the_broker_never_sees_a_secret(broker: Broker) -> None:
    credentials = Credentials(broker)
    await credentials.add_key(KEY)
    await credentials.add_token(TOKEN)
    kept = b""
    for name in await all_keys(broker):
        kept += name.encode() + repr(await _content(broker, name.encode())).encode()
    assert KEY.digest.encode() in kept
    assert SECRET.encode() not in kept
    assert TOKEN_SECRET.encode() not in kept


async def _content(broker: Broker, name: bytes) -> object:
    match await broker.commands.type(name):
        case b"hash":
            return await broker.commands.hgetall(name)  # type: ignore[misc]  # redis-py's two kinds of client
        case b"set":
            return await broker.commands.smembers(name)  # type: ignore[misc]  # likewise
        case _:
            return await broker.commands.get(name)


@pytest.mark.parametrize("garbage", [{"digest": "x"}, {"name": "\u00e9"}, {"models": "no json"}, {"lane": "fast"}])
async def test_a_record_of_another_version_is_passed_over(broker: Broker, garbage: dict[str, str]) -> None:
    credentials = Credentials(broker)
    await credentials.add_key(KEY)
    name = broker.keys.key("other")
    await broker.commands.hset(name, mapping={**garbage})  # type: ignore[misc]  # as above
    await broker.commands.sadd(broker.keys.keys, "other", "gone")  # type: ignore[misc]  # as above
    assert await credentials.client_keys() == [KEY]


async def test_a_flushed_broker_gets_all_back_from_a_hub_and_other_hubs_see_it(broker: Broker) -> None:
    credentials = Credentials(broker)
    await credentials.add_key(KEY)
    await credentials.add_token(TOKEN)
    first, second = CredentialTable(Credentials(broker), ()), CredentialTable(Credentials(broker), ())
    await first.refresh()
    await second.refresh()

    await flush(broker)
    await first.refresh()
    await second.refresh()

    assert await credentials.client_keys() == [KEY]
    assert await credentials.provider_tokens() == [TOKEN]
    for table in (first, second):
        assert await table.find_key(SECRET) == KEY
        assert await table.find_token(TOKEN_SECRET) == TOKEN


async def test_a_key_made_just_after_a_flush_does_not_cost_those_from_before(broker: Broker) -> None:
    credentials = Credentials(broker)
    await credentials.add_key(KEY)
    await credentials.add_token(TOKEN)
    table = CredentialTable(Credentials(broker), ())
    await table.refresh()

    await flush(broker)
    new = replace(KEY, digest=digest_of("another"), name="another")
    await credentials.add_key(new)  # at a hub that has not looked yet
    await table.refresh()

    assert {key.name for key in await credentials.client_keys()} == {KEY.name, "another"}
    assert await table.find_key("another") == new
    assert await table.find_key(SECRET) == KEY


async def test_a_key_removed_at_one_hub_is_no_good_at_another(broker: Broker) -> None:
    credentials = Credentials(broker)
    await credentials.add_key(KEY)
    elsewhere = CredentialTable(Credentials(broker), ())
    assert await elsewhere.find_key(SECRET) == KEY
    await credentials.remove_key(KEY.digest)
    await elsewhere.refresh()
    assert await elsewhere.find_key(SECRET) is None


@pytest.mark.parametrize("nonsense", [b"\xff", b"many", b"9" * 5000])
async def test_a_version_that_is_no_number_is_told_as_such_and_the_old_copy_stays(
    broker: Broker, nonsense: bytes
) -> None:
    """Anything but a BrokerError would end the hub's task, and every hub with it."""
    credentials, table = Credentials(broker), CredentialTable(Credentials(broker), ())
    await credentials.add_key(KEY)
    await table.refresh()
    await broker.commands.set("ghub:credentials", nonsense)
    with pytest.raises(BrokerRefused):
        await table.refresh()
    assert await table.find_key(SECRET) == KEY
