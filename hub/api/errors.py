"""Turns what is raised into answers, in the shape of the API that was called. No traceback ever leaves."""

from uuid import uuid4

import structlog
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from hub.api.entry_frames import plain_code
from hub.api.shape import ApiShape
from hub.api.shapes import shape_of
from hub.errors import RequestFailed, Unauthorized

log = structlog.get_logger()

ERROR_HEADER = "x-ghub-error"
"""An error's code, for those APIs too whose errors have no room for it."""


def error_response(error: RequestFailed, shape: ApiShape, headers: dict[str, str] | None = None) -> Response:
    """An error as a whole answer."""
    sent = {"x-request-id": uuid4().hex, **(headers or {}), ERROR_HEADER: plain_code(error.code)}
    request_id = sent.setdefault("request-id", sent["x-request-id"])  # Anthropic's name of it
    if error.retry_after_s is not None:
        sent["retry-after"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        sent["www-authenticate"] = "Bearer"
    return Response(shape.error_body(error, request_id), error.status, sent, media_type="application/json")


def refused(request: Request, error: RequestFailed) -> Response:
    """The answer to a request that failed."""
    return error_response(error, shape_of(request.scope["path"]))


def broken(request: Request, error: Exception) -> Response:
    """The answer where the hub has failed; what happened is told in its log alone."""
    path = request.scope["path"]
    log.error("handler_crashed", path=path, exc_info=error)
    return error_response(RequestFailed("The hub failed on this request."), shape_of(path))


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of this app in the shape of the API that was called."""

    async def on_refused(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestFailed)  # noqa: S101 - what it is installed for
        return refused(request, exc)

    async def http_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101
        unknown = f"This grid does not serve {request.method} {request.url.path}."
        message = exc.detail if exc.status_code != 404 else unknown
        code = {404: "unknown_url", 405: "method_not_allowed"}.get(exc.status_code, "http_error")
        error = RequestFailed(message, status=exc.status_code, code=code, type="invalid_request_error")
        return error_response(error, shape_of(request.url.path), dict(exc.headers or {}))

    async def on_broken(request: Request, exc: Exception) -> Response:
        return broken(request, exc)

    app.add_exception_handler(RequestFailed, on_refused)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, on_broken)
