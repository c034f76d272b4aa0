"""`/v1/requests/<id>`: what became of a request, its answer from any place on, and its end, for whoever made it."""

from typing import Any

from fastapi import APIRouter, Request, Response

from common.types import RequestId
from hub.api.errors import error_response
from hub.api.follow_response import FollowResponse
from hub.api.shapes import stream_shape_of
from hub.api.wishes import POSITION_HEADER
from hub.asking import asking_broker
from hub.errors import Conflict, RequestFailed
from hub.office.requests import CANCELLED_BY_CLIENT, RequestDesk
from hub.resume.followings import Followings
from hub.resume.own_requests import OwnRequests, shown
from hub.resume.position import Position
from hub.settings import HubSettings

POSITION_PARAMETER = "after"


def resumption_router(own: OwnRequests, followings: Followings, desk: RequestDesk, settings: HubSettings) -> APIRouter:
    """Routes about one request. One that another client key made is as unknown as one that never was."""
    router = APIRouter(tags=["inference"])

    @router.get("/v1/requests/{name}/stream", response_model=None)
    async def follow(name: str, request: Request) -> Response:
        """The answer, streamed as it was asked for, behind the event that `Last-Event-ID` names (or `?after=`)."""
        facts = await own.find(request.headers, name)
        said = request.headers.get(POSITION_HEADER) or request.query_params.get(POSITION_PARAMETER)
        after = Position.parse(said) if said else None
        if facts.get("resumable") != "1":
            raise Conflict(
                "This request was made without X-GHub-Resumable and without an Idempotency-Key.", code="not_resumable"
            )
        shape = stream_shape_of(facts.get("endpoint", ""))
        headers = {"x-request-id": name}
        try:
            with asking_broker("resume", settings.retry_after_s):
                reading = await followings.read(RequestId(name), facts)
        except RequestFailed as exc:
            return error_response(exc, shape, headers)
        return FollowResponse(reading, shape, settings, after=after, headers=headers)

    @router.delete("/v1/requests", status_code=202)
    async def cancel_by_key(request: Request) -> dict[str, Any]:
        """End the request that stands for an `Idempotency-Key`, for clients that have not heard its id yet."""
        name = await own.find_by_key(request.headers)
        await own.find(request.headers, name)
        return await desk.cancel(name, CANCELLED_BY_CLIENT)

    @router.get("/v1/requests/{name}")
    async def get_request(name: str, request: Request) -> dict[str, Any]:
        """How a request stands."""
        return shown(RequestId(name), await own.find(request.headers, name))

    @router.delete("/v1/requests/{name}", status_code=202)
    async def cancel_request(name: str, request: Request) -> dict[str, Any]:
        """End a request; whoever reads it hears `cancelled_by_client`."""
        await own.find(request.headers, name)
        return await desk.cancel(name, CANCELLED_BY_CLIENT)

    return router
