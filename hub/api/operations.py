"""`/health…` for probes and `/api/registry` for people: how this hub and the grid stand."""

from typing import Any

from fastapi import APIRouter, Response

from common import __version__
from common.errors import BrokerError
from common.registry import NodeRecord
from common.streams.jobs import JobLanes, LaneLoad, lanes_of
from common.types import NodeState
from hub.dispatcher import Dispatcher
from hub.errors import BrokerAway
from hub.registry_view import RegistryView


def operations_router(dispatcher: Dispatcher, view: RegistryView, lanes: JobLanes) -> APIRouter:
    """Routes that tell how things stand."""
    router = APIRouter(tags=["operations"])

    @router.get("/health")
    async def health(response: Response) -> dict[str, Any]:
        """Whether the broker is reachable, and what is there; 503 if it is not."""
        response.status_code = 200 if view.is_fresh else 503
        return {
            "status": "ok" if view.is_fresh else "degraded",
            "broker": "ok" if view.is_fresh else "unreachable",
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
        status = "draining" if dispatcher.is_draining else "ok" if view.is_fresh else "broker_unavailable"
        response.status_code = 200 if status == "ok" else 503
        return {"status": status}

    @router.get("/api/registry")
    async def registry() -> dict[str, Any]:
        """Every live node and every model, with what waits and runs."""
        models = sorted(view.known)
        try:
            loads = await lanes.loads(lanes_of(models))
        except BrokerError as exc:
            raise BrokerAway("the broker does not answer") from exc
        listed = []
        for model in models:
            nodes = view.models.get(model, [])
            mine = [load for lane, load in loads.items() if lane.model == model]
            total = LaneLoad(sum(load.waiting for load in mine), sum(load.running for load in mine))
            idle = sum(node.state is NodeState.IDLE for node in nodes)
            listed.append({"id": model, "nodes": len(nodes), "idle": idle, **total._asdict()})
        return {"nodes": [_shown(view.nodes[node]) for node in sorted(view.nodes)], "models": listed}

    return router


def _shown(node: NodeRecord) -> dict[str, Any]:
    return {name: getattr(node, name) for name in node.__slots__ if name != "instance"}
