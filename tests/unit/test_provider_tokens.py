"""Provider tokens that the environment names."""

import pytest
from pydantic import SecretStr

from common.errors import SettingsError
from common.records.credentials import digest_of
from hub.access.provider_tokens import parse_tokens

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"


def test_each_is_kept_as_its_hash_alone() -> None:
    tokens = parse_tokens(SecretStr(f"{FIRST}, {SECOND},"))
    assert [token.digest for token in tokens] == [digest_of(FIRST), digest_of(SECOND)]
    assert FIRST not in repr(tokens)


@pytest.mark.parametrize("setting", [None, "", " , "])
def test_none_is_none(setting: str | None) -> None:
    assert parse_tokens(setting if setting is None else SecretStr(setting)) == ()


def test_a_short_one_is_refused_without_being_told() -> None:
    with pytest.raises(SettingsError, match="at least 16") as refused:
        parse_tokens(SecretStr(f"{FIRST},short"))
    assert "short" not in str(refused.value).replace("shorter", "")
