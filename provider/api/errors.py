"""Errors of this surface, in OpenAI's form: `{"error": {message, type, param, code}}`."""

import orjson
from starlette.responses import Response

from provider.errors import CallRefused


def error_body(status: int, code: str, message: str, *, type: str | None = None, param: str | None = None) -> bytes:  # noqa: A002
    """The error object."""
    kind = type or ("server_error" if status >= 500 else "invalid_request_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def refusal(refused: CallRefused) -> Response:
    """The refusal as a whole answer."""
    headers = {"cache-control": "no-store"}
    if refused.retry_after_s is not None:
        headers["retry-after"] = str(refused.retry_after_s)
    if refused.status == 401:
        headers["www-authenticate"] = "X-Inferoute-HMAC" if refused.code.startswith("hmac_") else "Bearer"
    body = error_body(refused.status, refused.code, refused.message)
    return Response(body, refused.status, headers, media_type="application/json")
