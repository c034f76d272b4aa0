"""`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/responses`."""

from fastapi import APIRouter, Request, Response

from hub.api.intake import Intake
from hub.api.openai.bodies import ChatBody, CompletionBody, EmbeddingBody, ResponseBody
from hub.api.openai.shape import OPENAI, RESPONSES
from hub.api.openapi import documented
from hub.errors import NotFound


def inference_router(intake: Intake) -> APIRouter:
    """Routes that become jobs."""
    router = APIRouter(tags=["inference"])

    @router.post("/v1/chat/completions", openapi_extra=documented(ChatBody), response_model=None)
    async def chat_completions(request: Request) -> Response:
        """A chat completion, streamed or whole."""
        return await intake.serve(request, ChatBody, OPENAI)

    @router.post("/v1/completions", openapi_extra=documented(CompletionBody), response_model=None)
    async def completions(request: Request) -> Response:
        """A text completion, streamed or whole."""
        return await intake.serve(request, CompletionBody, OPENAI)

    @router.post("/v1/embeddings", openapi_extra=documented(EmbeddingBody), response_model=None)
    async def embeddings(request: Request) -> Response:
        """Vectors of texts."""
        return await intake.serve(request, EmbeddingBody, OPENAI)

    @router.post("/v1/responses", openapi_extra=documented(ResponseBody), response_model=None)
    async def responses(request: Request) -> Response:
        """A response, streamed or whole, by engines that know this API."""
        return await intake.serve(request, ResponseBody, RESPONSES)

    @router.api_route("/v1/responses/{rest:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
    async def kept_response(rest: str) -> None:
        """What OpenAI offers for responses that it has kept."""
        raise NotFound(f"This grid keeps no responses: there is nothing at /v1/responses/{rest}.")

    return router
