"""Tokens of providers: who shows one of `GHUB_HUB_PROVIDER_TOKENS` is believed to be a provider."""

import hashlib
import hmac
from dataclasses import dataclass

from pydantic import SecretStr

from common.errors import SettingsError
from hub.errors import Unauthorized

MIN_TOKEN_CHARS = 16


@dataclass(frozen=True, slots=True)
class ProviderTokens:
    """The tokens that are accepted, as hashes; empty: no provider is."""

    hashes: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, setting: SecretStr | None) -> "ProviderTokens":
        """Read `secret[,secret ...]`.

        Raises:
            SettingsError: one is shorter than 16 characters.
        """
        tokens = [part.strip() for part in (setting.get_secret_value() if setting else "").split(",")]
        tokens = [token for token in tokens if token]
        if any(len(token) < MIN_TOKEN_CHARS for token in tokens):
            raise SettingsError(f"GHUB_HUB_PROVIDER_TOKENS: each token has at least {MIN_TOKEN_CHARS} characters")
        return cls(tuple(_hashed(token) for token in tokens))

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def check(self, authorization: str) -> None:
        """Check an `Authorization` header, empty if there was none.

        Raises:
            Unauthorized: it shows no token of ours, or there is none to show.
        """
        if not self.hashes:
            raise Unauthorized(
                "this hub takes no calls of providers: set GHUB_HUB_PROVIDER_TOKENS on the hubs, and one of the tokens "
                "as GHUB_PROVIDER_TOKEN on each provider",
                code="provider_tokens_not_set",
            )
        scheme, _, token = authorization.partition(" ")
        shown = _hashed(token.strip())
        # each is compared, whichever it is, so that the time tells nothing
        is_ours = sum(hmac.compare_digest(shown, known) for known in self.hashes) > 0
        if scheme.lower() != "bearer" or not is_ours:
            raise Unauthorized("a provider's token is needed: Authorization: Bearer <GHUB_PROVIDER_TOKEN>")


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
