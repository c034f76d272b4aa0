"""What Ollama's clients ask before they chat: which models there are, what they are, and who answers."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from common import __version__
from common.endpoints import Capability
from common.types import ModelId
from hub.access.gatekeeper import Gatekeeper
from hub.api.bodies import read_checked
from hub.api.ollama.bodies import ShowBody
from hub.api.ollama.catalog import Catalog, KnownModel
from hub.api.openapi import documented
from hub.errors import Forbidden
from hub.settings import HubSettings

API_VERSION = "0.14.2"
"""The version of Ollama whose API this is: clients look at it to know what they may ask for."""
UNKNOWN_TIME = "0001-01-01T00:00:00Z"
"""How Ollama's API writes a time that is not known; its clients take nothing else for one."""
_MANAGEMENT = ("pull", "push", "create", "copy", "delete", "blobs/{digest}")


def ollama_models_router(catalog: Catalog, gatekeeper: Gatekeeper, settings: HubSettings) -> APIRouter:
    """Routes that are answered from the registry."""
    router = APIRouter(tags=["ollama"])

    async def tags(request: Request) -> dict[str, Any]:
        """Every model that a live node serves and the client may use."""
        caller = await gatekeeper.client(request.headers)
        return {"models": [_listed(model) for model in await catalog.models(caller)]}

    async def running(request: Request) -> dict[str, Any]:
        """Those of them that are in some node's memory."""
        caller = await gatekeeper.client(request.headers)
        loaded = [model for model in await catalog.models(caller) if model.is_loaded]
        more = {"expires_at": UNKNOWN_TIME, "size_vram": 0, "context_length": 0}
        return {"models": [_named(model) | more for model in loaded]}

    async def version(request: Request) -> dict[str, Any]:
        """The version of the API, and ours."""
        await gatekeeper.client(request.headers)
        return {"version": API_VERSION, "ghub": __version__}

    answers: dict[str, Callable[..., Any]] = {
        "/api/tags": tags,
        "/api/ps": running,
        "/api/version": version,
    }
    for path, answer in answers.items():
        router.add_api_route(path, answer, methods=["GET"], response_model=None)
        router.add_api_route(path, answer, methods=["HEAD"], response_model=None, include_in_schema=False)

    @router.post("/api/show", openapi_extra=documented(ShowBody))
    async def show(request: Request) -> dict[str, Any]:
        """What is known of one model."""
        caller = await gatekeeper.client(request.headers)
        wanted = await read_checked(request, ShowBody, settings.max_body_bytes, settings.body_timeout_s)
        model = await catalog.find(caller, ModelId(wanted.model))
        nothing = {"license": "", "modelfile": "", "parameters": "", "template": "", "model_info": {}}
        return nothing | {
            "details": _details(),
            "capabilities": _capabilities(model),
            "modified_at": UNKNOWN_TIME,
        }

    async def refuse(request: Request) -> None:
        await gatekeeper.client(request.headers)
        raise Forbidden(
            "this grid does not let clients change its models: ask whoever runs its machines", code="models_are_fixed"
        )

    for name in _MANAGEMENT:
        methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
        router.add_api_route(f"/api/{name}", refuse, methods=methods, include_in_schema=False)
    return router


def _listed(model: KnownModel) -> dict[str, Any]:
    return _named(model) | {"modified_at": UNKNOWN_TIME}


def _named(model: KnownModel) -> dict[str, Any]:
    name = _tagged(model.name)
    return {"name": name, "model": name, "size": model.size_bytes, "digest": model.digest, "details": _details()}


def _tagged(name: ModelId) -> str:
    """A name as Ollama's lists have them, never without a tag: clients compare it with what they were told to use."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _details() -> dict[str, Any]:
    """Of what a model is made: nobody tells."""
    names = ("parent_model", "format", "family", "parameter_size", "quantization_level")
    return {**dict.fromkeys(names, ""), "families": []}


def _capabilities(model: KnownModel) -> list[str]:
    """In Ollama's words. There `embedding` means that a model does nothing else, and clients hide it from chats."""
    if not model.capabilities.isdisjoint({Capability.CHAT, Capability.COMPLETIONS}):
        return ["completion"]
    return ["embedding"] if Capability.EMBEDDINGS in model.capabilities else []
