"""`/v1/direct`: clients ask for a ticket to call a provider themselves."""

from typing import Any

from fastapi import APIRouter, Request

from hub.access.gatekeeper import Gatekeeper
from hub.api.bodies import read_checked
from hub.api.openapi import documented
from hub.direct.tickets import DirectTickets, DirectWish
from hub.settings import HubSettings

MAX_WISH_BYTES = 16 * 2**10


def direct_router(gatekeeper: Gatekeeper, tickets: DirectTickets, settings: HubSettings) -> APIRouter:
    """The route that gives tickets."""
    router = APIRouter(tags=["direct"])

    @router.post("/v1/direct", openapi_extra=documented(DirectWish))
    async def direct(request: Request) -> dict[str, Any]:
        """Where to send one call, and the header that lets it through."""
        caller = await gatekeeper.client(request.headers)
        wish = await read_checked(request, DirectWish, MAX_WISH_BYTES, settings.body_timeout_s)
        return await tickets.issue(caller, wish)

    return router
