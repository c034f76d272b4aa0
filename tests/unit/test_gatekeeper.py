"""Who is let in: clients, providers and the operator, by what they show."""

from typing import Any

import pytest

from common.broker.clock import BrokerClock
from common.errors import BrokerUnavailable
from common.records.credentials import ClientKey, ProviderToken, digest_of
from common.types import ModelId
from hub.access.credential_table import CredentialTable
from hub.access.gatekeeper import ANYONE, Gatekeeper, shown_secret
from hub.errors import BrokerAway, ModelForbidden, Unauthorized
from hub.settings import HubSettings

NOW_MS = 1_000_000
ADMIN = "an-admin-token-of-some-length"


class Clock(BrokerClock):
    def __init__(self) -> None: ...

    def now_ms(self) -> int:
        return NOW_MS


class Table(CredentialTable):
    """The keys and tokens of a test; a broker that is away when told so."""

    def __init__(self, keys: list[ClientKey], tokens: list[ProviderToken], *, is_away: bool) -> None:
        self.keys = {key.digest: key for key in keys}
        self.tokens = {token.digest: token for token in tokens}
        self._is_away = is_away
        self._version = -1 if is_away else 1

    async def _look_again(self) -> None:
        if self._is_away:
            raise BrokerUnavailable("away")

    _refused: set[str] = set()  # noqa: RUF012 - nothing is remembered here: each test has its own secrets


def key(secret: str, **fields: Any) -> ClientKey:
    return ClientKey(digest_of(secret), secret, created_at=0, **fields)


def gatekeeper(*keys: ClientKey, tokens: tuple[str, ...] = (), is_away: bool = False, **settings: Any) -> Gatekeeper:
    known = [ProviderToken(digest_of(token), token, created_at=0) for token in tokens]
    return Gatekeeper(Table([*keys], known, is_away=is_away), Clock(), HubSettings(**settings))


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({}, ""),
        (bearer("a"), "a"),
        ({"authorization": "bearer  a "}, "a"),
        ({"authorization": "Basic a"}, ""),
        ({"x-api-key": " a "}, "a"),
        ({"authorization": "Bearer a", "x-api-key": "b"}, "a"),
        ({"authorization": "Basic a", "x-api-key": "b"}, "b"),
        ({"authorization": "Bearer"}, ""),
    ],
)
def test_a_secret_is_shown_in_one_of_two_ways(headers: dict[str, str], secret: str) -> None:
    assert shown_secret(headers) == secret


async def test_a_key_lets_its_client_in_with_what_it_allows() -> None:
    keeper = gatekeeper(key("mine", models=("llama*",)), auth="required")
    caller = await keeper.client(bearer("mine"))
    assert caller.key_id == digest_of("mine")[:16]
    caller.check_model(ModelId("any"), ModelId("llama3:8b"))
    with pytest.raises(ModelForbidden):
        caller.check_model(ModelId("any"), ModelId("qwen3:8b"))


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, "missing_api_key"), (bearer("wrong"), "invalid_api_key"), (bearer("old"), "expired_api_key")],
)
async def test_who_shows_none_a_wrong_or_an_old_key_stays_out(headers: dict[str, str], code: str) -> None:
    keeper = gatekeeper(key("old", expires_at=NOW_MS), key("good", expires_at=NOW_MS + 1), auth="required")
    with pytest.raises(Unauthorized) as refused:
        await keeper.client(headers)
    assert refused.value.code == code
    assert "wrong" not in str(refused.value)
    assert (await keeper.client(bearer("good"))).key is not None


async def test_where_no_key_is_asked_for_an_unknown_one_is_as_good_as_none() -> None:
    keeper = gatekeeper(key("mine"), key("old", expires_at=1))
    assert await keeper.client({}) is ANYONE
    assert await keeper.client(bearer("sk-whatever-an-sdk-wants")) is ANYONE
    assert (await keeper.client(bearer("mine"))).key_id is not None
    with pytest.raises(Unauthorized):
        await keeper.client(bearer("old"))


async def test_without_a_broker_an_unknown_key_is_not_called_wrong() -> None:
    keeper = gatekeeper(key("mine"), is_away=True, auth="required", retry_after_s=7)
    with pytest.raises(BrokerAway) as away:
        await keeper.client(bearer("unknown"))
    assert (away.value.status, away.value.retry_after_s) == (503, 7)
    with pytest.raises(BrokerAway):
        await keeper.provider(bearer("unknown"))
    assert (await keeper.client(bearer("mine"))).key is not None
    assert await gatekeeper(is_away=True).client(bearer("unknown")) is ANYONE


async def test_providers_show_tokens_and_clients_keys_are_none() -> None:
    keeper = gatekeeper(key("mine"), tokens=("theirs",))
    assert (await keeper.provider(bearer("theirs"))).name == "theirs"
    for headers in ({}, bearer("mine"), bearer("wrong")):
        with pytest.raises(Unauthorized) as refused:
            await keeper.provider(headers)
        assert refused.value.code == "invalid_token"
    with pytest.raises(Unauthorized) as refused:
        await gatekeeper().provider(bearer("any"))
    assert refused.value.code == "provider_tokens_not_set"


async def test_only_the_admin_token_is_the_operators() -> None:
    keeper = gatekeeper(key("mine"), tokens=("theirs",), admin_token=ADMIN)
    keeper.check_admin(bearer(ADMIN))
    for headers in ({}, bearer(""), bearer("mine"), bearer("theirs"), bearer(ADMIN[:-1]), bearer(digest_of(ADMIN))):
        with pytest.raises(Unauthorized) as refused:
            keeper.check_admin(headers)
        assert refused.value.code == "invalid_token"
    with pytest.raises(Unauthorized) as refused:
        gatekeeper().check_admin(bearer(ADMIN))
    assert refused.value.code == "admin_token_not_set"


async def test_a_secret_of_any_letters_is_read_and_refused() -> None:
    keeper = gatekeeper(auth="required", admin_token=ADMIN)
    for secret in ("\u00e9", "\x80\xff", "a" * 100_000):
        with pytest.raises(Unauthorized):
            await keeper.client(bearer(secret))
        with pytest.raises(Unauthorized):
            keeper.check_admin(bearer(secret))
