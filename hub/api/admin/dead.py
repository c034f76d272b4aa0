"""`/api/dead…`: jobs that were refused, or failed on every attempt."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.office.dead_jobs import DeadDesk

Limit = Annotated[int, Query(ge=1, le=1000)]


def dead_router(gatekeeper: Gatekeeper, desk: DeadDesk) -> APIRouter:
    """Routes about dead jobs."""
    router = admin_router(gatekeeper, "dead jobs")

    @router.get("/api/dead")
    async def list_dead(limit: Limit = 100) -> dict[str, Any]:
        """The last dead jobs, the newest first, without their bodies."""
        return {"dead": await desk.newest(limit)}

    @router.post("/api/dead/{entry}/retry", status_code=202)
    async def retry(entry: str) -> dict[str, Any]:
        """Publish it as a new request without a client, and drop it when that has ended.

        `/api/requests/<request>` tells how it ended; if it failed for good again, a new dead job does.
        """
        return await desk.retry(entry)

    @router.delete("/api/dead/{entry}")
    async def drop(entry: str) -> dict[str, Any]:
        """Forget one."""
        return await desk.drop(entry)

    @router.delete("/api/dead")
    async def drop_all() -> dict[str, Any]:
        """Forget all."""
        return await desk.drop_all()

    return router
