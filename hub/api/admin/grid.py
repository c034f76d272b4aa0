"""`/api/hubs` and `/api/queues`: the hubs of the grid, and what waits."""

from typing import Any

from fastapi import APIRouter

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.grid.picture import GridPicture


def grid_router(gatekeeper: Gatekeeper, picture: GridPicture) -> APIRouter:
    """Routes about the grid as a whole."""
    router = admin_router(gatekeeper, "grid")

    @router.get("/api/hubs")
    async def list_hubs() -> dict[str, Any]:
        """Every live hub process."""
        return {"hubs": await picture.hubs()}

    @router.get("/api/queues")
    async def list_queues() -> dict[str, Any]:
        """Every lane of every model, with what waits and runs."""
        return {"queues": await picture.queues()}

    return router
