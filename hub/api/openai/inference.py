"""`/v1/chat/completions` and `/v1/completions`."""

from fastapi import APIRouter, Request, Response

from common.types import ModelId
from hub.api.bodies import check_body, read_body
from hub.api.openai.bodies import ChatBody, CompletionBody, ModelBody
from hub.api.openai.shape import OPENAI
from hub.api.relay_response import RelayResponse
from hub.dispatcher import Dispatcher, Submission
from hub.settings import HubSettings


def inference_router(dispatcher: Dispatcher, settings: HubSettings) -> APIRouter:
    """Routes that become jobs."""
    router = APIRouter(tags=["inference"])

    async def submit(request: Request, shape: type[ModelBody]) -> Response:
        body = await read_body(request, settings.max_body_bytes)
        checked = check_body(shape, body)
        submission = Submission(
            endpoint=request.url.path,
            model=ModelId(checked.model),
            body=body,
            stream=bool(checked.stream),
            trace=request.headers.get("traceparent", "")[:256],
        )
        opened = await dispatcher.submit(submission)
        return RelayResponse(opened, dispatcher, OPENAI, settings)

    @router.post("/v1/chat/completions", openapi_extra=_documented(ChatBody), response_model=None)
    async def chat_completions(request: Request) -> Response:
        """A chat completion, streamed or whole."""
        return await submit(request, ChatBody)

    @router.post("/v1/completions", openapi_extra=_documented(CompletionBody), response_model=None)
    async def completions(request: Request) -> Response:
        """A text completion, streamed or whole."""
        return await submit(request, CompletionBody)

    return router


def _documented(shape: type[ModelBody]) -> dict[str, object]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shape.model_json_schema()}}}}
