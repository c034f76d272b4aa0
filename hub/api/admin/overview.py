"""`/api/overview…`: the whole grid at a glance, once or live."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from hub.access.gatekeeper import Gatekeeper
from hub.api.admin.door import admin_router
from hub.overview.feed import OverviewFeed
from hub.overview.snapshot import Overview
from hub.settings import HubSettings

PING_S = 15
"""Between the comments of a stream that has nothing to say: proxies cut silent ones."""


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

        return EventSourceResponse(events(), ping=PING_S, send_timeout=settings.send_timeout_s)

    return router
