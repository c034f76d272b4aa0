"""`/api/tokens…`: tokens that let machines join as providers."""

from typing import Any

from fastapi import APIRouter, Request

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.api.bodies import read_checked
from hub.api.openapi import documented
from hub.office.tokens import TokenOffice, TokenWish
from hub.settings import HubSettings

MAX_WISH_BYTES = 16 * 2**10


def tokens_router(gatekeeper: Gatekeeper, office: TokenOffice, settings: HubSettings) -> APIRouter:
    """Routes about tokens."""
    router = admin_router(gatekeeper, "tokens")

    @router.get("/api/tokens")
    async def list_tokens() -> dict[str, Any]:
        """Every token and the nodes it let in; never its secret."""
        return {"tokens": await office.shown()}

    @router.post("/api/tokens", status_code=201, openapi_extra=documented(TokenWish))
    async def create_token(request: Request) -> dict[str, Any]:
        """Make a token; `token` is its secret, told this once, and `join` the line to start a provider with."""
        wish = await read_checked(request, TokenWish, MAX_WISH_BYTES, settings.body_timeout_s)
        return await office.create(wish, str(request.base_url))

    @router.delete("/api/tokens/{name}")
    async def revoke_token(name: str) -> dict[str, Any]:
        """Let nobody in with it any more, and cut off the nodes it let in."""
        return await office.revoke(name)

    return router
