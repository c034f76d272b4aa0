"""`/`: the dashboard. The page is the same for everybody and holds no data: its scripts ask by the admin door."""

from pathlib import Path, PurePosixPath

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).resolve().parents[1] / "web"
GREETING = "GhubAi is running"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, and as what: what the system thinks of a suffix differs from machine to machine."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # asked for each time, answered by 304 while it is the same
}


def dashboard_router() -> APIRouter:
    """The page and its parts; no part of the API, so not in its description."""
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=WEB)

    async def served(name: str, request: Request) -> Response:
        media_type = TYPES.get(PurePosixPath(name).suffix)
        if media_type is None:
            raise HTTPException(404)
        response = await files.get_response(name, request.scope)
        response.headers.update(HEADERS)
        if response.status_code == 200:
            response.headers["content-type"] = media_type
        return response

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        """The page for browsers; programs, as Ollama's clients, look here to see whether anybody is there."""
        wants_page = "text/html" in request.headers.get("accept", "")
        response = await served("index.html", request) if wants_page else PlainTextResponse(GREETING)
        response.headers["vary"] = "accept"
        return response

    @router.api_route("/dashboard/{name:path}", methods=["GET", "HEAD"])
    async def part(name: str, request: Request) -> Response:
        """A script, a style sheet or the icon."""
        return await served(name, request)

    return router
