"""`/api/provider/register`: providers join, and renew what they were given."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from common.registration import Registration, RegistrationRequest
from hub.access.broker_address import host_of
from hub.access.gatekeeper import Gatekeeper
from hub.access.members import Members
from hub.api.bodies import read_checked
from hub.api.openapi import documented
from hub.settings import HubSettings

PATH = "/api/provider/register"
MAX_REGISTRATION_BYTES = 2 * 2**20
"""4,096 models with the longest names fit."""


def register_router(gatekeeper: Gatekeeper, members: Members, settings: HubSettings) -> APIRouter:
    """The route that lets nodes in."""
    router = APIRouter(tags=["providers"])

    @router.post(PATH, openapi_extra=documented(RegistrationRequest, PATH), response_model=Registration)
    async def register(request: Request) -> JSONResponse:
        """Make a node a member of the grid, or renew it; the answer holds secrets."""
        token = await gatekeeper.provider(request.headers)
        wanted = await read_checked(request, RegistrationRequest, MAX_REGISTRATION_BYTES, settings.body_timeout_s)
        given = await members.register(wanted, token, host_of(request.headers.get("host", "")))
        return JSONResponse(given.model_dump(), headers={"cache-control": "no-store"})

    return router
