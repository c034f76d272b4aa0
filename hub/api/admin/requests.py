"""`/api/requests…`: the requests of the whole grid."""

from typing import Any

from fastapi import APIRouter, Request

from common.types import RequestStatus
from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.api.admin.query import choice_in, number_in, query_of
from hub.office.requests import OPEN, RequestDesk

MOST = 1000
_QUERY = query_of(
    status={"type": "string", "enum": [*OPEN]},
    model={"type": "string"},
    limit={"type": "integer", "minimum": 1, "maximum": MOST, "default": 100},
)


def requests_router(gatekeeper: Gatekeeper, desk: RequestDesk) -> APIRouter:
    """Routes about requests."""
    router = admin_router(gatekeeper, "requests")

    @router.get("/api/requests", openapi_extra=_QUERY)
    async def list_requests(request: Request) -> dict[str, Any]:
        """Open requests, those that run first."""
        status = choice_in(request, "status", OPEN)
        limit = number_in(request, "limit", default=100, most=MOST)
        wanted = None if status is None else RequestStatus(status)
        return await desk.open_ones(wanted, request.query_params.get("model"), limit)

    @router.get("/api/requests/{name}")
    async def get_request(name: str) -> dict[str, Any]:
        """One request, open or ended not long ago."""
        return await desk.show(name)

    @router.delete("/api/requests/{name}", status_code=202)
    async def cancel_request(name: str) -> dict[str, Any]:
        """End a request, whichever hub holds it; its client hears `cancelled_by_operator`."""
        return await desk.cancel(name)

    return router
