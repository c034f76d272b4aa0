"""The way in for what becomes a job: FastAPI documents these routes, and this calls them without its stack.

Matching routes, solving dependencies and wrapping each message took a seventh of what a short request cost the hub.
"""

from collections.abc import Awaitable, Callable, Iterable

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.api.errors import broken

Handler = Callable[[Request], Awaitable[Response]]


class Front:
    """An ASGI application before another one.

    Args:
        app: takes all other requests.
        routers: whose POST routes without parameters in their paths are called here. Each endpoint takes the request
            and nothing else, and answers whatever it refuses itself.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._handlers: dict[str, Handler] = {
            route.path: route.endpoint
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute) and route.methods == {"POST"} and not route.param_convertors
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        handler = self._handlers.get(scope["path"]) if is_post else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await handler(request)
        except Exception as exc:  # noqa: BLE001 - as FastAPI does: clients hear their API's error, whatever broke
            response = await broken(request, exc)
        await response(scope, receive, send)
