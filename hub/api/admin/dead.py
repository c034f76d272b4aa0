"""`/api/dead…`: jobs that were refused, or failed on every attempt."""

from typing import Any

from fastapi import APIRouter, Request

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.api.admin.query import number_in, query_of
from hub.office.dead_jobs import DeadDesk

MOST = 1000
_QUERY = query_of(limit={"type": "integer", "minimum": 1, "maximum": MOST, "default": 100})


def dead_router(gatekeeper: Gatekeeper, desk: DeadDesk) -> APIRouter:
    """Routes about dead jobs."""
    router = admin_router(gatekeeper, "dead jobs")

    @router.get("/api/dead", openapi_extra=_QUERY)
    async def list_dead(request: Request) -> dict[str, Any]:
        """The last dead jobs, the newest first, without their bodies."""
        return {"dead": await desk.newest(number_in(request, "limit", default=100, most=MOST))}

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
