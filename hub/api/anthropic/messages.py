"""`/v1/messages` and `/v1/messages/count_tokens`."""

from fastapi import APIRouter, Request, Response

from hub.api.anthropic.bodies import CountTokensBody, MessageBody
from hub.api.anthropic.shape import ANTHROPIC
from hub.api.intake import Intake
from hub.api.openapi import documented


def messages_router(intake: Intake) -> APIRouter:
    """Routes that become jobs, for engines that know this API; `anthropic-version` makes no difference."""
    router = APIRouter(tags=["inference"])

    @router.post("/v1/messages", openapi_extra=documented(MessageBody), response_model=None)
    async def messages(request: Request) -> Response:
        """A message, streamed or whole."""
        return await intake.serve(request, MessageBody, ANTHROPIC)

    @router.post("/v1/messages/count_tokens", openapi_extra=documented(CountTokensBody), response_model=None)
    async def count_tokens(request: Request) -> Response:
        """How many tokens a prompt has."""
        return await intake.serve(request, CountTokensBody, ANTHROPIC)

    return router
