"""Makes, shows and revokes clients' API keys."""

from dataclasses import asdict
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from common.broker.clock import BrokerClock
from common.records.credentials import KEY_HEAD, ClientKey, Credentials, digest_of, new_secret
from common.records.usage import UsageBooks, days_back
from common.registration import ModelName
from common.types import AskedLane, Lane
from hub.access.credential_table import CredentialTable
from hub.asking import asking_broker
from hub.errors import InvalidRequest
from hub.office.expiry import FORMS, expiry_ms
from hub.office.named import NamedRecords, RecordName
from hub.settings import HubSettings

log = structlog.get_logger()

Limit = Annotated[int, Field(ge=1, le=2**31)]


class KeyWish(BaseModel):
    """A key that is to be made; what is left out is not limited."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: RecordName
    models: tuple[ModelName, ...] = Field((), max_length=256)
    """Names or patterns (`llama*`) of the models it may use; empty: all."""
    rpm: Limit | None = None
    """Requests a minute."""
    tpm: Limit | None = None
    """Prompt and completion tokens a minute."""
    concurrency: Limit | None = None
    """Requests that may be with providers at once; more wait for their turn."""
    expires: Annotated[str, Field(max_length=64)] | None = Field(None, description=FORMS)
    lane: AskedLane = AskedLane.INTERACTIVE
    """The most urgent lane it may use, and the one it uses if a request asks for none."""


class KeyOffice:
    """What an operator does with clients' keys. Raises BrokerAway from every method."""

    def __init__(
        self,
        credentials: Credentials,
        table: CredentialTable,
        usage: UsageBooks,
        clock: BrokerClock,
        settings: HubSettings,
    ) -> None:
        self._keys = NamedRecords(
            "key",
            lambda: table.keys,
            refresh=table.refresh,
            add=credentials.add_key,
            remove=credentials.remove_key,
            retry_after_s=settings.retry_after_s,
        )
        self._usage = usage
        self._clock = clock
        self._retry_after_s = settings.retry_after_s

    async def shown(self) -> list[dict[str, Any]]:
        """Every key, expired ones too, by name."""
        return [_shown(key) for key in sorted(await self._keys.all(), key=lambda key: key.name)]

    async def show(self, wanted: str) -> dict[str, Any]:
        """The key with this id or name; NotFound without one."""
        return _shown(await self._keys.find(wanted))

    async def create(self, wish: KeyWish) -> dict[str, Any]:
        """Make a key; what is shown of it, with its secret as `key`, which is told this once.

        Raises:
            InvalidRequest: `expires` is no moment to come.
            Conflict: the name is taken.
        """
        secret = new_secret(KEY_HEAD)
        key = ClientKey(
            digest=digest_of(secret),
            name=wish.name,
            created_at=self._clock.now_ms(),
            models=wish.models,
            rpm=wish.rpm,
            tpm=wish.tpm,
            concurrency=wish.concurrency,
            lane=Lane(wish.lane),
            expires_at=self._expiry_ms(wish.expires),
        )
        await self._keys.add(key)
        log.info("key_created", key=key.id, name=key.name)
        return {**_shown(key), "key": secret}

    async def revoke(self, wanted: str) -> dict[str, Any]:
        """Let a key in no more: here at once, at other hubs within a second or two. Its open requests end."""
        key = await self._keys.find(wanted)
        await self._keys.remove(key)
        log.info("key_revoked", key=key.id, name=key.name)
        return {"id": key.id, "name": key.name, "revoked": True}

    async def usage(self, wanted: str, days: int) -> dict[str, Any]:
        """What a key used on each of the last days (UTC), by model, the last day first; idle days are left out."""
        key = await self._keys.find(wanted)
        with asking_broker("usage", self._retry_after_s):
            used = await self._usage.read(key.id, days_back(self._clock.now_ms(), days))
        shown = [
            {"day": day, "models": [{"model": model, **asdict(one)} for model, one in sorted(models.items())]}
            for day, models in used.items()
            if models
        ]
        return {"id": key.id, "name": key.name, "days": shown}

    async def usage_of_all(self, days: int) -> list[dict[str, Any]]:
        """What every key used on each of the last days, a row for each model, the last day first."""
        wanted, keys = days_back(self._clock.now_ms(), days), sorted(await self._keys.all(), key=lambda key: key.name)
        with asking_broker("usage", self._retry_after_s):
            used = {key.id: await self._usage.read(key.id, wanted) for key in keys}
        return [
            {"key": key.id, "name": key.name, "day": day, "model": model, **asdict(one)}
            for day in wanted
            for key in keys
            for model, one in sorted(used[key.id][day].items())
        ]

    def _expiry_ms(self, said: str | None) -> int | None:
        try:
            return None if said is None else expiry_ms(said, self._clock.now_ms())
        except ValueError as exc:
            raise InvalidRequest(f"expires: {exc}", code="invalid_value", param="expires") from exc


def _shown(key: ClientKey) -> dict[str, Any]:
    limits = {name: getattr(key, name) for name in ("rpm", "tpm", "concurrency", "expires_at")}
    return {
        "id": key.id,
        "name": key.name,
        "created_at": key.created_at,
        "models": key.models,
        "lane": key.lane.value,
        **limits,
    }
