"""`POST /pause` and `POST /resume`: the owner's word, for this machine alone unless a token is set.

A web page that the owner looks at can send a POST here, and a tunnel brings in the whole world. So without a token a
call must carry a header that pages may not send unasked, come from loopback to a loopback name, and not be forwarded;
and with a tunnel, or an address that others reach, there is no control without a token.
"""

import hmac
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from common.addresses import is_loopback
from common.reasons import Reason
from provider.api.errors import refusal
from provider.errors import CallRefused
from provider.gate.gate import Gate
from provider.settings import ProviderSettings
from provider.standing import Standing

CONTROL_HEADER = "x-ghub-control"
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-connecting-ip")


def control_router(gate: Gate, standing: Standing, settings: ProviderSettings) -> APIRouter:
    """Routes that move the gate."""
    router = APIRouter(tags=["control"])

    def set_paused(request: Request, *, holds: bool) -> Response:
        try:
            _authorize(request, settings)
        except CallRefused as exc:
            return refusal(exc)
        gate.set(Reason.PAUSED, holds=holds)
        answer: dict[str, Any] = {"state": standing.state.value, "reasons": list(gate.reasons)}
        return JSONResponse(answer)

    @router.post("/pause", response_model=None)
    async def pause(request: Request) -> Response:
        """Take no more work; what runs goes on."""
        return set_paused(request, holds=True)

    @router.post("/resume", response_model=None)
    async def resume(request: Request) -> Response:
        """Take work again, unless another reason stands."""
        return set_paused(request, holds=False)

    return router


def _authorize(request: Request, settings: ProviderSettings) -> None:
    token = settings.server.control_token
    if token is not None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if not hmac.compare_digest(given, token.get_secret_value().encode()):
            raise CallRefused(401, "invalid_control_token", "this needs server.control_token as a Bearer token")
        return
    if settings.tunnel.url is not None or not is_loopback(settings.server.host):
        raise CallRefused(403, "control_off", "others can reach this port: set server.control_token to use this")
    host = request.url.hostname or ""
    peer = request.client.host if request.client else ""
    is_local = is_loopback(host) and is_loopback(peer)
    if not is_local or CONTROL_HEADER not in request.headers or any(name in request.headers for name in FORWARDED):
        raise CallRefused(403, "control_local_only", f"only from this machine, with the header {CONTROL_HEADER}: 1")
