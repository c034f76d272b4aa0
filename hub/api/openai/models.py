"""`/v1/models`: what live nodes serve, under every name that leads to it."""

from typing import Any

from fastapi import APIRouter, Request

from common.types import ModelId
from hub.access.gatekeeper import Gatekeeper
from hub.api.anthropic.models import describe_model, is_anthropic, list_models
from hub.errors import ModelNotFound
from hub.grid.model_names import ModelNames
from hub.grid.registry_view import RegistryView


def models_router(view: RegistryView, gatekeeper: Gatekeeper, names: ModelNames) -> APIRouter:
    """Routes that list models, in OpenAI's form, or in Anthropic's for its clients."""
    router = APIRouter(tags=["models"])

    def described(name: ModelId, model: ModelId, *, for_anthropic: bool) -> dict[str, Any]:
        since_s = min(node.started_at for node in view.models[model]) // 1000
        if for_anthropic:
            return describe_model(name, since_s)
        return {"id": name, "object": "model", "created": since_s, "owned_by": "ghub"}

    @router.get("/v1/models")
    async def get_models(request: Request) -> dict[str, Any]:
        """Every model that a live node serves and the client may use, and its aliases."""
        caller = await gatekeeper.client(request.headers)
        for_anthropic = is_anthropic(request.headers)
        listed = sorted(names.listed(view.models).items())
        seen = [(name, model) for name, model in listed if caller.sees(name, model)]
        models = [described(name, model, for_anthropic=for_anthropic) for name, model in seen]
        return list_models(models) if for_anthropic else {"object": "list", "data": models}

    @router.get("/v1/models/{model:path}")
    async def get_model(request: Request, model: str) -> dict[str, Any]:
        """One model, under any of its names, which may hold slashes."""
        caller = await gatekeeper.client(request.headers)
        asked = ModelId(model)
        found = names.find(asked, view.models)
        if found is None or not caller.sees(asked, found):
            raise ModelNotFound(f"The model {model!r} does not exist: no live node serves it.", param="model")
        is_alias = names.listed(view.models).get(asked) == found
        return described(asked if is_alias else found, found, for_anthropic=is_anthropic(request.headers))

    return router
