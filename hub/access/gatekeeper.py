"""Who may do what at this hub: clients with keys, providers with tokens, the operator with the admin token."""

import hmac
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pydantic import SecretStr

from common.broker.clock import BrokerClock
from common.errors import BrokerError
from common.records.credentials import ClientKey, ProviderToken, digest_of
from common.types import KeyId, ModelId
from hub.access.credential_table import CredentialTable
from hub.access.shown_secret import shown_secret
from hub.asking import asking_broker
from hub.errors import ModelForbidden, Unauthorized, UnknownClient
from hub.settings import HubSettings


@dataclass(frozen=True, slots=True)
class Caller:
    """A client; without a key where this hub asks for none."""

    key: ClientKey | None = None

    @property
    def key_id(self) -> KeyId | None:
        """Its key's name for machines."""
        return None if self.key is None else self.key.id

    def sees(self, *names: ModelId) -> bool:
        """Whether it may know of a model and use it, under any of these names: its key may allow an alias alone."""
        return self.key is None or any(map(self.key.allows, names))

    def check_model(self, asked: ModelId, model: ModelId) -> None:
        """Raise ModelForbidden unless it may use the model that the name it asked for leads to."""
        if not self.sees(asked, model):
            raise ModelForbidden(f"This API key may not use the model {model!r}.", param="model")


ANYONE = Caller()
"""A client of a hub that asks for no key."""


class Gatekeeper:
    """Checks the secrets that requests show. Nothing is said of a secret but that it isn't accepted."""

    def __init__(self, table: CredentialTable, clock: BrokerClock, settings: HubSettings) -> None:
        self._table = table
        self._clock = clock
        self._settings = settings
        self._admin_digest = _digest_of(settings.admin_token)

    async def client(self, headers: Mapping[str, str]) -> Caller:
        """The client behind a request: `Authorization: Bearer` or `x-api-key`.

        Where no key is asked for, one that is known still counts (its limits and its usage), and an unknown one is as
        good as none: SDKs want something in its place.

        Raises:
            Unauthorized: no key, an unknown or an expired one.
            BrokerAway: the key is not known here, and the broker cannot be asked.
        """
        secret = shown_secret(headers)
        needed = self._settings.needs_client_keys
        try:
            key = await self._table.find_key(secret) if secret else None
        except BrokerError:
            key = None
            if needed:
                with self._asking():  # here, since every request would pay for it around the look
                    raise
        if key is not None and key.is_expired(self._clock.now_ms()):
            raise UnknownClient("This API key has expired.", code="expired_api_key")
        if key is None and needed:
            said = "This API key is not known here." if secret else "An API key is needed."
            code = "invalid_api_key" if secret else "missing_api_key"
            raise UnknownClient(f"{said} Send it as 'Authorization: Bearer KEY'.", code=code)
        return ANYONE if key is None else Caller(key)

    async def provider(self, headers: Mapping[str, str]) -> ProviderToken:
        """The token that a provider shows.

        Raises:
            Unauthorized: none, or an unknown one; `provider_tokens_not_set` where there are none at all.
            BrokerAway: it is not known here, and the broker cannot be asked.
        """
        secret = shown_secret(headers)
        with self._asking():
            token = await self._table.find_token(secret) if secret else None
        if token is not None:
            return token
        if self._table.is_known and not self._table.tokens:
            raise Unauthorized(
                "this hub takes no calls of providers: make a token with 'ghub token create NAME', or set "
                "GHUB_HUB_PROVIDER_TOKENS on the hubs, and show it as GHUB_PROVIDER_TOKEN on the provider",
                code="provider_tokens_not_set",
            )
        raise Unauthorized("a provider's token is needed: Authorization: Bearer <GHUB_PROVIDER_TOKEN>")

    def check_admin(self, headers: Mapping[str, str], *, is_local: bool = False) -> None:
        """Raise Unauthorized unless the request shows the admin token, or shows nothing and need not.

        Args:
            headers: of the request.
            is_local: whether it was made on this hub's own machine, whose users may be let in without.
        """
        if is_local and self._settings.lets_local_admin_in and not shown_secret(headers):
            return
        if self._admin_digest is None:
            raise Unauthorized(
                "this hub has no admin token: set GHUB_HUB_ADMIN_TOKEN on the hubs", code="admin_token_not_set"
            )
        if not hmac.compare_digest(digest_of(shown_secret(headers)), self._admin_digest):
            raise Unauthorized("the admin token is needed: Authorization: Bearer <GHUB_HUB_ADMIN_TOKEN>")

    def _asking(self) -> AbstractContextManager[None]:
        return asking_broker("authenticate", self._settings.retry_after_s, "who you are cannot be told")


def _digest_of(secret: SecretStr | None) -> str | None:
    return None if secret is None else digest_of(secret.get_secret_value())
