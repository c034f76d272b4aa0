"""`/api/requests…`: the requests of the whole grid."""

from typing import Any, Literal

from fastapi import APIRouter

from common.types import RequestStatus
from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.dead import Limit
from hub.api.admin.door import admin_router
from hub.office.requests import RequestDesk


def requests_router(gatekeeper: Gatekeeper, desk: RequestDesk) -> APIRouter:
    """Routes about requests."""
    router = admin_router(gatekeeper, "requests")

    @router.get("/api/requests")
    async def list_requests(
        status: Literal["queued", "claimed", "streaming"] | None = None, model: str | None = None, limit: Limit = 100
    ) -> dict[str, Any]:
        """Open requests, those that run first."""
        return await desk.open_ones(None if status is None else RequestStatus(status), model, limit)

    @router.get("/api/requests/{name}")
    async def get_request(name: str) -> dict[str, Any]:
        """One request, open or ended not long ago."""
        return await desk.show(name)

    @router.delete("/api/requests/{name}", status_code=202)
    async def cancel_request(name: str) -> dict[str, Any]:
        """End a request, whichever hub holds it; its client hears `cancelled_by_operator`."""
        return await desk.cancel(name)

    return router
