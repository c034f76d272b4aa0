"""Errors of this surface, in OpenAI's form: `{"error": {message, type, param, code}}`."""

import orjson
from starlette.responses import Response

from provider.errors import CallRefused


def error_body(refused: CallRefused) -> bytes:
    """The error object."""
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    return orjson.dumps({"error": {"message": refused.message, "type": kind, "param": None, "code": refused.code}})


def refusal(refused: CallRefused) -> Response:
    """The refusal as a whole answer."""
    headers = {"cache-control": "no-store"}
    if refused.retry_after_s is not None:
        headers["retry-after"] = str(refused.retry_after_s)
    if refused.status == 401:
        headers["www-authenticate"] = "X-Inferoute-HMAC" if refused.code.startswith("hmac_") else "Bearer"
    return Response(error_body(refused), refused.status, headers, media_type="application/json")
