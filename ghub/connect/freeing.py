"""Ends requests at the hubs whose clients have left: one that can be resumed does not end with its connection."""

import asyncio

import structlog

from ghub.connect.call import Call
from ghub.connect.client import HubClient, leave
from ghub.connect.errors import HubFailed
from ghub.connect.headers import Headers
from ghub.connect.hubs import Hub, Hubs
from ghub.connect.search import Search
from hub.api.wishes import IDEMPOTENCY_HEADER

log = structlog.get_logger()

LIMIT_S = 10.0
"""How long a hub is looked for that ends a request; after that its `resume_window_s` does."""
LOOK_S = 0.2
LOOKS = 10
"""So often, and so far apart, a key is asked for that stands for nothing: its request may be on the way into a hub."""
NOT_FOUND = 404
FAILED = 500


class Freeing:
    """Tells hubs of those who left, in the background."""

    def __init__(self, hubs: Hubs, client: HubClient) -> None:
        self._hubs = hubs
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()

    def free(self, call: Call) -> None:
        """End a call's request, unless its client may come back for it."""
        if call.own_key is None or not call.was_asked:
            return
        task = asyncio.create_task(self._end(call, call.own_key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_s: float) -> None:
        """Wait until all of them are told, at most so long."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()

    async def _end(self, call: Call, key: str) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._tell(call, key)
        except TimeoutError:
            log.warning("request_not_freed", request=call.request)

    async def _tell(self, call: Call, key: str) -> None:
        search, looks = Search(self._hubs, LIMIT_S), 1 if call.is_under_way else LOOKS
        while (hub := await search.next()) is not None:
            try:
                status = await self._delete(hub, call, key)
            except HubFailed:
                continue
            if status < FAILED:
                looks -= 1
                if status != NOT_FOUND or not looks:
                    log.info("request_freed", request=call.request, status=status)
                    return
                await asyncio.sleep(LOOK_S)
                search.allow(LIMIT_S)

    async def _delete(self, hub: Hub, call: Call, key: str) -> int:
        headers = Headers(call.who)
        headers[IDEMPOTENCY_HEADER] = key
        target = f"/v1/requests/{call.request}" if call.is_under_way else "/v1/requests"
        response = await self._client.ask(hub, "DELETE", target, headers)
        leave(response)
        return response.status
