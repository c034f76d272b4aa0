"""`/v1/models`: what live nodes serve."""

from typing import Any

from fastapi import APIRouter, Request

from common.types import ModelId
from hub.errors import ModelNotFound
from hub.gatekeeper import Gatekeeper
from hub.model_names import known_as
from hub.registry_view import RegistryView


def models_router(view: RegistryView, gatekeeper: Gatekeeper) -> APIRouter:
    """Routes that list models."""
    router = APIRouter(tags=["models"])

    def described(model: ModelId) -> dict[str, Any]:
        since = min(node.started_at for node in view.models[model]) // 1000
        return {"id": model, "object": "model", "created": since, "owned_by": "ghub"}

    @router.get("/v1/models")
    async def list_models(request: Request) -> dict[str, Any]:
        """Every model that a live node serves and the client may use."""
        caller = await gatekeeper.client(request.headers)
        return {"object": "list", "data": [described(model) for model in sorted(view.models) if caller.sees(model)]}

    @router.get("/v1/models/{model:path}")
    async def get_model(request: Request, model: str) -> dict[str, Any]:
        """One model; its name may hold slashes."""
        caller = await gatekeeper.client(request.headers)
        found = known_as(ModelId(model), view.models)
        if found is None or not caller.sees(found):
            raise ModelNotFound(f"The model {model!r} does not exist: no live node serves it.", param="model")
        return described(found)

    return router
