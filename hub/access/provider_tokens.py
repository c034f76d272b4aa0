"""Tokens of providers that the environment names: `GHUB_HUB_PROVIDER_TOKENS`."""

from pydantic import SecretStr

from common.errors import SettingsError
from common.records.credentials import ProviderToken, digest_of

MIN_TOKEN_CHARS = 16
NAME = "GHUB_HUB_PROVIDER_TOKENS"


def parse_tokens(setting: SecretStr | None) -> tuple[ProviderToken, ...]:
    """Read `secret[,secret ...]`.

    Raises:
        SettingsError: one is shorter than 16 characters.
    """
    tokens = [part.strip() for part in (setting.get_secret_value() if setting else "").split(",")]
    tokens = [token for token in tokens if token]
    if any(len(token) < MIN_TOKEN_CHARS for token in tokens):
        raise SettingsError(f"{NAME}: each token has at least {MIN_TOKEN_CHARS} characters")
    return tuple(ProviderToken(digest_of(token), NAME, created_at=0) for token in tokens)
