"""`/api/usage`: what all keys used."""

from typing import Any

from fastapi import APIRouter, Request

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.api.admin.query import number_in, query_of
from hub.office.keys import KeyOffice

MOST_DAYS = 366
_QUERY = query_of(days={"type": "integer", "minimum": 1, "maximum": MOST_DAYS, "default": 30})


def usage_router(gatekeeper: Gatekeeper, office: KeyOffice) -> APIRouter:
    """The route that tells what was used."""
    router = admin_router(gatekeeper, "keys")

    @router.get("/api/usage", openapi_extra=_QUERY)
    async def get_usage(request: Request) -> dict[str, Any]:
        """What every key used on each of the last days (UTC), by model, the last day first."""
        days = number_in(request, "days", default=30, most=MOST_DAYS)
        return {"days": days, "usage": await office.usage_of_all(days)}

    return router
