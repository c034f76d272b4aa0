"""`/api/overview…`: the whole grid at a glance, once or live."""

from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import APIRouter, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.overview.feed import OverviewFeed
from hub.overview.snapshot import Overview
from hub.settings import HubSettings

log = structlog.get_logger()

PING_S = 15
"""Between the comments of a stream that has nothing to say: proxies cut silent ones."""


class WatchResponse(EventSourceResponse):
    """A stream of events whose end by a client that reads nothing is no failure of the hub."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell the events until they or the client end."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("watcher_gone", reason=f"it read nothing for {self.send_timeout:g} s")


def overview_router(gatekeeper: Gatekeeper, overview: Overview, feed: OverviewFeed, settings: HubSettings) -> APIRouter:
    """Routes that dashboards read."""
    router = admin_router(gatekeeper, "grid")

    @router.get("/api/overview")
    async def take_overview() -> dict[str, Any]:
        """Nodes, models, queues, what runs and waits, and the last hour."""
        return await overview.take()

    @router.get("/api/overview/stream", response_model=None)
    async def watch_overview() -> Response:
        """The same as server-sent events: `snapshot`, then `patch` (RFC 7396) about once a second where it changes.

        `trouble` tells why there is nothing new.
        """
        watched = await feed.watch()

        async def events() -> AsyncIterator[ServerSentEvent]:
            async for news in watched:
                yield ServerSentEvent(data=news.data, event=news.event)

        return WatchResponse(events(), ping=PING_S, send_timeout=settings.send_timeout_s)

    return router
