"""`/api/provider/validate_hmac`: providers ask whether a direct call may have what it wants."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from common.errors import DirectRefused
from common.types import NodeId
from hub.access.gatekeeper import Gatekeeper
from hub.access.members import Members
from hub.api.bodies import read_checked
from hub.api.openapi import documented
from hub.api.provider.bodies import HmacQuestion
from hub.direct.calls import DirectCalls
from hub.errors import Unauthorized
from hub.settings import HubSettings

MAX_QUESTION_BYTES = 16 * 2**10


def hmac_router(
    gatekeeper: Gatekeeper, members: Members, direct_calls: DirectCalls, settings: HubSettings
) -> APIRouter:
    """The route that answers about HMACs; its 401 has a form of its own, all other errors have OpenAI's."""
    router = APIRouter(tags=["providers"])

    @router.post("/api/provider/validate_hmac", openapi_extra=documented(HmacQuestion), response_model=None)
    async def validate_hmac(request: Request) -> JSONResponse:
        """Whether an HMAC is good for a call, and was not used before."""
        try:
            token = await gatekeeper.provider(request.headers)
            question = await read_checked(request, HmacQuestion, MAX_QUESTION_BYTES, settings.body_timeout_s)
            nonce = direct_calls.verify(question.call, question.hmac)
            await members.check_own(NodeId(question.node), token)
            await direct_calls.use(nonce)
        except Unauthorized as exc:
            return _refused(exc.code, exc.message)
        except DirectRefused as exc:
            return _refused(exc.code.value, str(exc))
        return JSONResponse({"valid": True})

    return router


def _refused(code: str, message: str) -> JSONResponse:
    said = {"valid": False, "code": code, "message": message}
    return JSONResponse(said, 401, {"www-authenticate": "Bearer"})
