"""Makes, shows and revokes providers' tokens."""

import shlex
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict

from common.addresses import is_loopback, lan_address, with_host
from common.broker.clock import BrokerClock
from common.records.credentials import TOKEN_HEAD, Credentials, ProviderToken, digest_of, new_secret
from hub.access.credential_table import CredentialTable
from hub.access.members import Members
from hub.access.this_machine import host_in, is_local_name
from hub.office.named import NamedRecords, RecordName
from hub.settings import HubSettings

log = structlog.get_logger()


class TokenWish(BaseModel):
    """A token that is to be made."""

    model_config = ConfigDict(extra="forbid")

    name: RecordName


class TokenOffice:
    """What an operator does with providers' tokens. Raises BrokerAway from every method."""

    def __init__(
        self,
        credentials: Credentials,
        table: CredentialTable,
        members: Members,
        clock: BrokerClock,
        settings: HubSettings,
    ) -> None:
        self._tokens = NamedRecords(
            "token",
            lambda: table.tokens,
            refresh=table.refresh,
            add=credentials.add_token,
            remove=credentials.remove_token,
            retry_after_s=settings.retry_after_s,
        )
        self._members = members
        self._clock = clock
        self._public_url = settings.public_url
        self._listens_to_others = not is_loopback(settings.host)

    async def shown(self) -> list[dict[str, Any]]:
        """Every token by name, and the nodes it let in; those of the environment have no `created_at`."""
        tokens = sorted(await self._tokens.all(), key=lambda token: (token.name, token.id))
        members = await self._members.members()
        return [
            {**_shown(token), "nodes": sorted(one.node for one in members if one.token == token.id)} for token in tokens
        ]

    async def create(self, wish: TokenWish, reached_at: str) -> dict[str, Any]:
        """Make a token; what is shown of it, with its secret as `token`, which is told this once.

        Args:
            wish: what was asked for.
            reached_at: the URL under which this hub was asked; `hub_url` in the answer unless a setting knows better,
                or it is one of this machine alone, and the hub is open to others.

        Raises:
            Conflict: the name is taken.
        """
        secret = new_secret(TOKEN_HEAD)
        token = ProviderToken(digest_of(secret), wish.name, self._clock.now_ms())
        await self._tokens.add(token)
        log.info("token_created", token=token.id, name=token.name)
        hub_url = (self._public_url or self._as_others_see(reached_at)).rstrip("/")
        line = f"uv run ghub provider --hub-url {shlex.quote(hub_url)}"
        return {
            **_shown(token),
            "token": secret,
            "hub_url": hub_url,
            "is_reachable": not is_local_name(host_in(hub_url)),
            "join": f"{line} --token {secret}",
            "join_env": f"GHUB_PROVIDER_TOKEN={secret} {line}",
        }

    async def revoke(self, wanted: str) -> dict[str, Any]:
        """Let nobody in with a token any more, and cut off the nodes that it let in.

        Raises:
            NotFound: there is no such token.
            Conflict: it is one of `GHUB_HUB_PROVIDER_TOKENS`.
        """
        token = await self._tokens.find(wanted)
        nodes = await self._members.revoke(token)
        return {"id": token.id, "name": token.name, "revoked": True, "nodes": sorted(nodes)}

    def _as_others_see(self, url: str) -> str:
        if not self._listens_to_others or not is_local_name(host_in(url)):
            return url
        address = lan_address()
        return url if address is None else with_host(url, address)


def _shown(token: ProviderToken) -> dict[str, Any]:
    return {"id": token.id, "name": token.name, "created_at": token.created_at or None}
