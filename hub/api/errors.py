"""Turns what is raised into answers, in the shape of the API that was called. No traceback ever leaves."""

from uuid import uuid4

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from hub.api.shape import ApiShape
from hub.api.shapes import shape_of
from hub.errors import InvalidRequest, RequestFailed, Unauthorized, plain_code

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
    fields = shape.error_fields(error)
    if shape.request_field:
        fields[shape.request_field] = request_id
    return Response(orjson.dumps(fields), error.status, sent, media_type="application/json")


async def broken(request: Request, error: Exception) -> Response:
    """The answer where the hub has failed; what happened is told in its log alone."""
    path = request.scope["path"]
    log.error("handler_crashed", path=path, exc_info=error)
    return error_response(RequestFailed("The hub failed on this request."), shape_of(path))


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of this app in the shape of the API that was called."""

    @app.exception_handler(RequestFailed)
    async def refused(request: Request, error: RequestFailed) -> Response:
        return error_response(error, shape_of(request.scope["path"]))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        unknown = f"This grid does not serve {request.method} {request.url.path}."
        message = error.detail if error.status_code != 404 else unknown
        code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        told = InvalidRequest(message, status=error.status_code, code=code)
        return error_response(told, shape_of(request.url.path), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid_query(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        param = str(first["loc"][-1])
        told = InvalidRequest(f"{param}: {first['msg']}", code="invalid_value", param=param)
        return error_response(told, shape_of(request.url.path))

    app.add_exception_handler(Exception, broken)
