"""A hub's copy of keys and tokens: what costs the broker a question, and what is said where it does not answer."""

import asyncio
from collections.abc import Sequence

import pytest

from common.errors import BrokerError, BrokerUnavailable
from common.records.credentials import ClientKey, Credentials, ProviderToken, digest_of
from hub.access.credential_table import MIN_GAP_S, MOST_REFUSED, REFRESH_S, CredentialTable
from tests.unit.virtual_time import in_virtual_time, now_s

LOOK_S = 0.01


class Books(Credentials):
    """What a broker would keep, with how often it was looked at."""

    def __init__(self) -> None:
        self.kept_keys: dict[str, ClientKey] = {}
        self.kept_tokens: dict[str, ProviderToken] = {}
        self.counter = 0
        self.looks = 0
        self.is_away = False
        self.takes_s = LOOK_S

    def make(self, secret: str) -> None:
        self.kept_keys[digest_of(secret)] = ClientKey(digest_of(secret), f"key {secret}", created_at=1)
        self.counter += 1

    def make_token(self, secret: str) -> None:
        self.kept_tokens[digest_of(secret)] = ProviderToken(digest_of(secret), f"token {secret}", created_at=1)
        self.counter += 1

    def forget_all(self) -> None:
        self.kept_keys, self.kept_tokens, self.counter = {}, {}, 0

    async def version(self) -> int:
        self.looks += 1
        await asyncio.sleep(self.takes_s)
        if self.is_away:
            raise BrokerUnavailable("away")
        return self.counter

    async def client_keys(self) -> list[ClientKey]:
        return [*self.kept_keys.values()]

    async def provider_tokens(self) -> list[ProviderToken]:
        return [*self.kept_tokens.values()]

    async def restore(self, keys: Sequence[ClientKey], tokens: Sequence[ProviderToken], version: int) -> None:
        self.kept_keys |= {key.digest: key for key in keys}
        self.kept_tokens |= {token.digest: token for token in tokens}
        self.counter = version


def table_of(books: Books, *fixed: str) -> CredentialTable:
    return CredentialTable(books, tuple(ProviderToken(digest_of(one), "fixed", created_at=0) for one in fixed))


def test_a_key_that_is_known_costs_no_look() -> None:
    async def story() -> None:
        books = Books()
        books.make("mine")
        table = table_of(books)
        await table.refresh()
        for _ in range(1000):
            assert await table.find_key("mine")
        assert books.looks == 1

    in_virtual_time(story())


def test_a_key_made_elsewhere_a_moment_ago_is_let_in() -> None:
    async def story() -> None:
        books = Books()
        table = table_of(books)
        await table.refresh()
        books.make("new")
        found = await table.find_key("new")
        assert found is not None
        assert found.name == "key new"
        assert now_s() < MIN_GAP_S + 3 * LOOK_S

    in_virtual_time(story())


@pytest.mark.parametrize("is_token", [False, True])
def test_ten_thousand_wrong_keys_at_once_wait_for_one_look(*, is_token: bool) -> None:
    async def story() -> None:
        books = Books()
        table = table_of(books)
        find = table.find_token if is_token else table.find_key
        assert await asyncio.gather(*(find(f"wrong {n}") for n in range(10_000))) == [None] * 10_000
        assert books.looks == 1

    in_virtual_time(story())


def test_wrong_keys_that_keep_coming_provoke_five_looks_a_second() -> None:
    async def story() -> None:
        books = Books()
        table = table_of(books)
        await table.refresh()

        async def visitor(name: str) -> None:
            attempt = 0
            while now_s() < 10:
                attempt += 1
                await table.find_key(f"{name} {attempt}")
                await asyncio.sleep(LOOK_S / 3)

        await asyncio.gather(*(visitor(f"visitor {n}") for n in range(50)))
        assert books.looks <= 10 / MIN_GAP_S + 2

    in_virtual_time(story())


def test_a_wrong_key_that_was_refused_is_refused_at_once() -> None:
    async def story() -> None:
        books = Books()
        table = table_of(books)
        assert await table.find_key("wrong") is None
        looks, began_s = books.looks, now_s()
        for _ in range(10_000):
            assert await table.find_key("wrong") is None
        assert (books.looks, now_s()) == (looks, began_s)

    in_virtual_time(story())


def test_a_refusal_is_forgotten_with_the_next_change() -> None:
    async def story() -> None:
        books = Books()
        table = table_of(books)
        assert await table.find_key("mine") is None
        books.make("mine")
        await table.refresh()
        assert await table.find_key("mine") is not None
        del books.kept_keys[digest_of("mine")]
        books.counter += 1
        await table.refresh()
        assert await table.find_key("mine") is None

    in_virtual_time(story())


def test_wrong_keys_are_not_remembered_without_end() -> None:
    async def story() -> None:
        table = table_of(Books())
        for batch in range(3):
            await asyncio.gather(*(table.find_key(f"{batch} {n}") for n in range(MOST_REFUSED - 1)))
        assert len(table._refused) <= MOST_REFUSED

    in_virtual_time(story())


def test_a_clients_key_is_no_providers_token() -> None:
    async def story() -> None:
        books = Books()
        books.make("client")
        books.make_token("provider")
        table = table_of(books, "from the environment")
        await table.refresh()
        assert await table.find_token("client") is None
        assert await table.find_key("provider") is None
        assert await table.find_key("client") is not None  # a refusal as the one says nothing of the other
        assert await table.find_token("provider") is not None
        assert await table.find_token("from the environment") is not None

    in_virtual_time(story())


def test_a_broker_that_is_away_is_told_of_and_refuses_nobody() -> None:
    async def story() -> None:
        books = Books()
        books.make("mine")
        table = table_of(books)
        await table.refresh()
        books.is_away = True
        assert await table.find_key("mine") is not None
        with pytest.raises(BrokerError):
            await table.find_key("wrong")
        books.is_away = False
        await asyncio.sleep(MIN_GAP_S)
        assert await table.find_key("wrong") is None

    in_virtual_time(story())


def test_a_broker_that_hangs_holds_up_all_for_the_time_of_one_look() -> None:
    async def story() -> None:
        books = Books()
        books.is_away, books.takes_s = True, 5
        table = table_of(books)
        told = await asyncio.gather(*(table.find_key(f"wrong {n}") for n in range(1000)), return_exceptions=True)
        assert all(isinstance(one, BrokerError) for one in told)
        assert (books.looks, now_s()) == (1, 5)

    in_virtual_time(story())


def test_a_broker_that_forgot_all_is_told_again_and_fixed_tokens_stay_out_of_it() -> None:
    async def story() -> None:
        books = Books()
        books.make("mine")
        books.make_token("theirs")
        table = table_of(books, "from the environment")
        running = asyncio.create_task(table.run())
        await asyncio.sleep(REFRESH_S)
        books.forget_all()
        await asyncio.sleep(2 * REFRESH_S)
        assert [*books.kept_keys] == [digest_of("mine")]
        assert [*books.kept_tokens] == [digest_of("theirs")]
        assert books.counter == 3  # past all that was before, so that other hubs look
        assert await table.find_key("mine") is not None
        running.cancel()

    in_virtual_time(story())


def test_an_outage_does_not_end_the_looking() -> None:
    async def story() -> None:
        books = Books()
        table = table_of(books)
        running = asyncio.create_task(table.run())
        books.is_away = True
        await asyncio.sleep(3 * REFRESH_S)
        assert not table.is_known
        books.is_away = False
        books.make("mine")
        await asyncio.sleep(2 * REFRESH_S)
        assert digest_of("mine") in table.keys
        running.cancel()

    in_virtual_time(story())
