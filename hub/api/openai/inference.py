"""`/v1/chat/completions` and `/v1/completions`."""

from fastapi import APIRouter, Request, Response

from hub.api.intake import Intake
from hub.api.openai.bodies import ChatBody, CompletionBody, ModelBody
from hub.api.openai.shape import OPENAI


def inference_router(intake: Intake) -> APIRouter:
    """Routes that become jobs."""
    router = APIRouter(tags=["inference"])

    @router.post("/v1/chat/completions", openapi_extra=_documented(ChatBody), response_model=None)
    async def chat_completions(request: Request) -> Response:
        """A chat completion, streamed or whole."""
        return await intake.serve(request, ChatBody, OPENAI)

    @router.post("/v1/completions", openapi_extra=_documented(CompletionBody), response_model=None)
    async def completions(request: Request) -> Response:
        """A text completion, streamed or whole."""
        return await intake.serve(request, CompletionBody, OPENAI)

    return router


def _documented(shape: type[ModelBody]) -> dict[str, object]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shape.model_json_schema()}}}}
