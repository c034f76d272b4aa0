"""Tokens of providers: one of several will do, and nothing else will."""

import pytest
from pydantic import SecretStr

from common.errors import SettingsError
from hub.errors import Unauthorized
from hub.provider_tokens import ProviderTokens

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"
TOKENS = ProviderTokens.parse(SecretStr(f"{FIRST}, {SECOND},"))


def refusal(tokens: ProviderTokens, authorization: str) -> Unauthorized:
    with pytest.raises(Unauthorized) as refused:
        tokens.check(authorization)
    assert refused.value.status == 401
    assert FIRST not in refused.value.message
    return refused.value


@pytest.mark.parametrize("token", [FIRST, SECOND])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Bearer  {} "])
def test_any_of_the_tokens_is_believed(form: str, token: str) -> None:
    TOKENS.check(form.format(token))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        FIRST,
        f"Basic {FIRST}",
        f"Bearer {FIRST[:-1]}",
        f"Bearer {FIRST}0",
        f"Bearer {FIRST.upper()}",
        f"Bearer {FIRST}, {SECOND}",
        f"Bearer {FIRST} {SECOND}",
        "Bearer " + "é" * 16,
    ],
)
def test_all_else_is_refused(authorization: str) -> None:
    assert refusal(TOKENS, authorization).code == "invalid_token"


@pytest.mark.parametrize("setting", [None, SecretStr(""), SecretStr(" , ")])
def test_without_any_token_every_call_is_refused_and_told_what_to_set(setting: SecretStr | None) -> None:
    tokens = ProviderTokens.parse(setting)
    assert not tokens
    for authorization in ("", "Bearer ", f"Bearer {FIRST}"):
        refused = refusal(tokens, authorization)
        assert refused.code == "provider_tokens_not_set"
        assert "GHUB_HUB_PROVIDER_TOKENS" in refused.message


@pytest.mark.parametrize("setting", ["hidden", f"{FIRST},hidden", f"hidden,{FIRST}"])
def test_a_token_that_is_too_short_is_refused_and_not_shown(setting: str) -> None:
    with pytest.raises(SettingsError, match=r"^GHUB_HUB_PROVIDER_TOKENS: .* 16 characters") as refused:
        ProviderTokens.parse(SecretStr(setting))
    assert "hidden" not in str(refused.value)
    assert FIRST not in str(refused.value)


def test_tokens_are_not_shown_by_accident() -> None:
    assert FIRST not in repr(TOKENS)
