"""`/v1/models`: what live nodes serve."""

from typing import Any

from fastapi import APIRouter

from common.types import ModelId
from hub.errors import ModelNotFound
from hub.model_names import known_as
from hub.registry_view import RegistryView


def models_router(view: RegistryView) -> APIRouter:
    """Routes that list models."""
    router = APIRouter(tags=["models"])

    def described(model: ModelId) -> dict[str, Any]:
        since = min(node.started_at for node in view.models[model]) // 1000
        return {"id": model, "object": "model", "created": since, "owned_by": "ghub"}

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """Every model that a live node serves."""
        return {"object": "list", "data": [described(model) for model in sorted(view.models)]}

    @router.get("/v1/models/{model:path}")
    async def get_model(model: str) -> dict[str, Any]:
        """One model; its name may hold slashes."""
        found = known_as(ModelId(model), view.models)
        if found is None:
            raise ModelNotFound(f"The model {model!r} does not exist: no live node serves it.", param="model")
        return described(found)

    return router
