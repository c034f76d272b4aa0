"""The one door of the operations API: every route behind it wants the admin token."""

from fastapi import APIRouter, Depends, Request

from hub.access.gatekeeper import Gatekeeper


def admin_router(gatekeeper: Gatekeeper, tag: str) -> APIRouter:
    """A router whose every route refuses who does not show the admin token, before it looks at anything else."""

    async def admin_only(request: Request) -> None:
        gatekeeper.check_admin(request.headers)

    return APIRouter(tags=[tag], dependencies=[Depends(admin_only)])
