"""`/api/provider/health`: providers say how they stand."""

from fastapi import APIRouter, Request, Response

from common.report import HealthReport
from common.types import NodeId
from hub.access.gatekeeper import Gatekeeper
from hub.access.members import Members
from hub.api.bodies import check_body, read_body
from hub.grid.reports import Reports
from hub.settings import HubSettings

_SCHEMA = "#/paths/~1api~1provider~1health/post/requestBody/content/application~1json/schema"
"""Where the report's schema stands in /openapi.json, for the references inside it."""


def health_router(gatekeeper: Gatekeeper, members: Members, reports: Reports, settings: HubSettings) -> APIRouter:
    """The route that takes health reports."""
    router = APIRouter(tags=["providers"])
    schema = HealthReport.model_json_schema(ref_template=f"{_SCHEMA}/$defs/{{model}}")
    documented = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    @router.post("/api/provider/health", status_code=204, openapi_extra=documented, response_model=None)
    async def report_health(request: Request) -> Response:
        """Keep a provider's report; the latest shows in the registry. A token reports for its own nodes only."""
        token = await gatekeeper.provider(request.headers)
        report = check_body(HealthReport, await read_body(request, settings.max_report_bytes, settings.body_timeout_s))
        await members.check_own(NodeId(report.node), token)
        await reports.keep(report)
        return Response(status_code=204)

    return router
