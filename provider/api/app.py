"""The provider's own web application."""

import structlog
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response

from common import __version__
from provider.api.control import control_router
from provider.api.direct import direct_router
from provider.api.errors import refusal
from provider.api.status import status_router
from provider.direct import DirectCalls
from provider.errors import CallRefused
from provider.gate.gate import Gate
from provider.settings import ProviderSettings
from provider.standing import Standing
from provider.telemetry.trail import Trails

log = structlog.get_logger()


def make_app(
    settings: ProviderSettings,
    gate: Gate,
    standing: Standing,
    calls: DirectCalls,
    metrics: CollectorRegistry,
    trails: Trails,
) -> FastAPI:
    """Everything a provider answers over HTTP."""
    app = FastAPI(title="GhubAi provider", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(status_router(standing, metrics))
    app.include_router(control_router(gate, standing, settings))
    app.include_router(direct_router(calls, settings, trails))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, exc: HTTPException) -> Response:
        code = {404: "unknown_url", 405: "method_not_allowed"}.get(exc.status_code, "http_error")
        return refusal(CallRefused(exc.status_code, code, f"{request.method} {request.url.path}: {exc.detail}"))

    @app.exception_handler(Exception)
    async def broken(request: Request, exc: Exception) -> Response:
        log.error("handler_crashed", path=request.url.path, exc_info=exc)
        return refusal(CallRefused(500, "internal_error", "the provider failed on this call"))

    return app
