"""`/api/chat`, `/api/generate` and `/api/embed`."""

from fastapi import APIRouter, Request, Response

from hub.api.intake import Intake
from hub.api.ollama.bodies import ChatBody, EmbedBody, GenerateBody
from hub.api.ollama.shape import OLLAMA, OLLAMA_CHAT, OLLAMA_GENERATE
from hub.api.openapi import documented


def ollama_inference_router(intake: Intake) -> APIRouter:
    """Routes that become jobs."""
    router = APIRouter(tags=["ollama"])

    @router.post("/api/chat", openapi_extra=documented(ChatBody), response_model=None)
    async def chat(request: Request) -> Response:
        """A chat, streamed unless the body says otherwise."""
        return await intake.serve(request, ChatBody, OLLAMA_CHAT)

    @router.post("/api/generate", openapi_extra=documented(GenerateBody), response_model=None)
    async def generate(request: Request) -> Response:
        """An answer to a prompt, streamed unless the body says otherwise."""
        return await intake.serve(request, GenerateBody, OLLAMA_GENERATE)

    @router.post("/api/embed", openapi_extra=documented(EmbedBody), response_model=None)
    async def embed(request: Request) -> Response:
        """Embeddings of one text or several."""
        return await intake.serve(request, EmbedBody, OLLAMA)

    return router
