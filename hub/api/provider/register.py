"""`/api/provider/register`: providers join, and renew what they were given."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from common.registration import Registration, RegistrationRequest
from hub.access.broker_address import host_of
from hub.access.gatekeeper import Gatekeeper
from hub.access.members import Members
from hub.api.bodies import check_body, read_body
from hub.settings import HubSettings

MAX_REGISTRATION_BYTES = 2 * 2**20
"""4,096 models with the longest names fit."""
_SCHEMA = "#/paths/~1api~1provider~1register/post/requestBody/content/application~1json/schema"
"""Where the request's schema stands in /openapi.json, for the references inside it."""


def register_router(gatekeeper: Gatekeeper, members: Members, settings: HubSettings) -> APIRouter:
    """The route that lets nodes in."""
    router = APIRouter(tags=["providers"])
    schema = RegistrationRequest.model_json_schema(ref_template=f"{_SCHEMA}/$defs/{{model}}")
    documented = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    @router.post("/api/provider/register", openapi_extra=documented, response_model=Registration)
    async def register(request: Request) -> JSONResponse:
        """Make a node a member of the grid, or renew it; the answer holds secrets."""
        token = await gatekeeper.provider(request.headers)
        body = await read_body(request, MAX_REGISTRATION_BYTES, settings.body_timeout_s)
        wanted = check_body(RegistrationRequest, body)
        given = await members.register(wanted, token, host_of(request.headers.get("host", "")))
        return JSONResponse(given.model_dump(), headers={"cache-control": "no-store"})

    return router
