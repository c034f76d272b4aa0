"""`/health…` for probes, `/api/registry` for people, `/metrics` for Prometheus: how this hub and the grid stand."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from common import __version__
from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import check_operator
from hub.figures.exposition import Exposition
from hub.grid.picture import GridPicture
from hub.grid.registry_view import RegistryView
from hub.requests.dispatcher import Dispatcher
from hub.settings import HubSettings


def operations_router(
    dispatcher: Dispatcher,
    view: RegistryView,
    picture: GridPicture,
    exposition: Exposition,
    gatekeeper: Gatekeeper,
    settings: HubSettings,
) -> APIRouter:
    """Routes that tell how things stand: probes to anybody, the registry and figures to whom they may concern."""
    router = APIRouter(tags=["operations"])

    def check_reader(request: Request) -> None:
        if settings.needs_client_keys:
            check_operator(gatekeeper, request)

    @router.get("/health")
    async def health(response: Response) -> dict[str, Any]:
        """Whether the broker is reachable, and what is there; 503 if it is not."""
        response.status_code = 200 if view.is_answered else 503
        return {
            "status": "ok" if view.is_answered else "degraded",
            "broker": "ok" if view.is_answered else "unreachable",
            "nodes": len(view.nodes),
            "models": len(view.models),
            "open_requests": dispatcher.open_count,
            "version": __version__,
        }

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @router.get("/health/ready")
    async def ready(response: Response) -> dict[str, str]:
        """Whether to send requests here: 503 without the broker, or while stopping."""
        status = "draining" if dispatcher.is_leaving else "ok" if view.is_answered else "broker_unavailable"
        response.status_code = 200 if status == "ok" else 503
        return {"status": status}

    @router.get("/api/registry")
    async def registry(request: Request) -> dict[str, Any]:
        """Every live node and how it last reported, nodes that are gone, and every model with what waits and runs.

        It names machines and what runs on them: where clients need keys, only an operator sees it.
        """
        check_reader(request)
        return await picture.take()

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Figures for Prometheus, of this hub and of the grid; where clients need keys, only an operator sees them."""
        check_reader(request)
        return Response(await exposition.text(), media_type=CONTENT_TYPE_LATEST)

    return router
