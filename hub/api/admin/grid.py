"""`/api/hubs` and `/api/queues`: the hubs of the grid, and what waits."""

from typing import Any

from fastapi import APIRouter, Request

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router, check_operator
from hub.errors import Unauthorized
from hub.grid.picture import GridPicture


def grid_router(gatekeeper: Gatekeeper, picture: GridPicture) -> APIRouter:
    """Routes about the grid as a whole."""
    router = APIRouter(tags=["grid"])
    admin = admin_router(gatekeeper, "grid")

    @router.get("/api/hubs")
    async def list_hubs(request: Request) -> dict[str, Any]:
        """Every live hub process: for clients where they reach it, for operators its own address too."""
        try:
            check_operator(gatekeeper, request)
        except Unauthorized:
            await gatekeeper.client(request.headers)
            return {"hubs": await picture.hubs_for_clients()}
        return {"hubs": await picture.hubs()}

    @admin.get("/api/queues")
    async def list_queues() -> dict[str, Any]:
        """Every lane of every model, with what waits and runs."""
        return {"queues": await picture.queues()}

    router.include_router(admin)
    return router
