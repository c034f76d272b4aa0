"""`/health`, `/busy` and `/metrics`: how this provider stands, for people and monitors on this machine."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from common.report import HealthReport
from provider.standing import Standing


def status_router(standing: Standing, metrics: CollectorRegistry) -> APIRouter:
    """Routes that tell how things stand."""
    router = APIRouter(tags=["status"])

    @router.get("/health")
    async def health() -> HealthReport:
        """The report that the hub gets too. 200 as long as the process runs: the state says the rest."""
        return standing.health()

    @router.get("/busy")
    async def busy() -> dict[str, Any]:
        """Whether a request that came now would be taken, and if not, why."""
        return standing.busy()

    @router.get("/metrics")
    async def read_metrics() -> Response:
        """Figures in Prometheus' text form."""
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    return router
