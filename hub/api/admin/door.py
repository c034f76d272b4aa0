"""The one door of the operations API: every route behind it wants the admin token, or a caller on this machine."""

from fastapi import APIRouter, Depends, Request

from hub.access.gatekeeper import Gatekeeper
from hub.access.this_machine import is_from_this_machine


def check_operator(gatekeeper: Gatekeeper, request: Request) -> None:
    """Raise Unauthorized unless an operator asks."""
    gatekeeper.check_admin(request.headers, is_local=is_from_this_machine(request.scope))


def admin_router(gatekeeper: Gatekeeper, tag: str) -> APIRouter:
    """A router whose every route refuses who is no operator, before it looks at anything else."""

    async def admin_only(request: Request) -> None:
        check_operator(gatekeeper, request)

    return APIRouter(tags=[tag], dependencies=[Depends(admin_only)])
