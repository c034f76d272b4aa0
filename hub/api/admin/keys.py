"""`/api/keys…`: clients' API keys."""

from typing import Any

from fastapi import APIRouter, Request

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.api.admin.usage import Days
from hub.api.bodies import read_checked
from hub.api.openapi import documented
from hub.office.keys import KeyOffice, KeyWish
from hub.settings import HubSettings

MAX_WISH_BYTES = 256 * 2**10

PATH = "/api/keys"


def keys_router(gatekeeper: Gatekeeper, office: KeyOffice, settings: HubSettings) -> APIRouter:
    """Routes about keys."""
    router = admin_router(gatekeeper, "keys")

    @router.get(PATH)
    async def list_keys() -> dict[str, Any]:
        """Every key; never its secret."""
        return {"keys": await office.shown()}

    @router.post(PATH, status_code=201, openapi_extra=documented(KeyWish, PATH))
    async def create_key(request: Request) -> dict[str, Any]:
        """Make a key; `key` is its secret, told this once."""
        return await office.create(await read_checked(request, KeyWish, MAX_WISH_BYTES, settings.body_timeout_s))

    @router.get("/api/keys/{name}")
    async def get_key(name: str) -> dict[str, Any]:
        """One key, by its id or name."""
        return await office.show(name)

    @router.delete("/api/keys/{name}")
    async def revoke_key(name: str) -> dict[str, Any]:
        """Let it in no more."""
        return await office.revoke(name)

    @router.get("/api/keys/{name}/usage")
    async def get_usage(name: str, days: Days = 30) -> dict[str, Any]:
        """What it used on each of the last days, by model."""
        return await office.usage(name, days)

    return router
