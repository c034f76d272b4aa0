"""`/api/why/<name>`: why something waits, or does not work."""

from typing import Any

from fastapi import APIRouter

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.why.explainer import Explainer


def why_router(gatekeeper: Gatekeeper, explainer: Explainer) -> APIRouter:
    """The route that answers why."""
    router = admin_router(gatekeeper, "grid")

    @router.get("/api/why/{name:path}")
    async def why(name: str) -> dict[str, Any]:
        """Why a request, a node, a model or a key stands as it does: a summary, and the reasons with their cures."""
        return await explainer.explain(name)

    return router
