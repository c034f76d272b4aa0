"""`/api/usage`: what all keys used."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.office.keys import KeyOffice

Days = Annotated[int, Query(ge=1, le=366)]


def usage_router(gatekeeper: Gatekeeper, office: KeyOffice) -> APIRouter:
    """The route that tells what was used."""
    router = admin_router(gatekeeper, "keys")

    @router.get("/api/usage")
    async def get_usage(days: Days = 30) -> dict[str, Any]:
        """What every key used on each of the last days (UTC), by model, the last day first."""
        return {"days": days, "usage": await office.usage_of_all(days)}

    return router
