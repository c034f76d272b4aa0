"""`/api/provider/health`: providers say how they stand."""

from fastapi import APIRouter, Request, Response

from common.report import HealthReport
from common.types import NodeId
from hub.access.gatekeeper import Gatekeeper
from hub.access.members import Members
from hub.api.bodies import read_checked
from hub.api.openapi import documented
from hub.grid.reports import Reports
from hub.settings import HubSettings

PATH = "/api/provider/health"


def health_router(gatekeeper: Gatekeeper, members: Members, reports: Reports, settings: HubSettings) -> APIRouter:
    """The route that takes health reports."""
    router = APIRouter(tags=["providers"])

    @router.post(PATH, status_code=204, openapi_extra=documented(HealthReport, PATH), response_model=None)
    async def report_health(request: Request) -> Response:
        """Keep a provider's report; the latest shows in the registry. A token reports for its own nodes only."""
        token = await gatekeeper.provider(request.headers)
        report = await read_checked(request, HealthReport, settings.max_report_bytes, settings.body_timeout_s)
        await members.check_own(NodeId(report.node), token)
        await reports.keep(report)
        return Response(status_code=204)

    return router
