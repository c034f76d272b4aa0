"""The way from hub to hub: which one is asked next, when to pause, and when to give up."""

import asyncio

from common.tasks import backoff_s
from ghub.connect.hubs import Hub, Hubs

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0


class Search:
    """One request's search for a hub that answers."""

    def __init__(self, hubs: Hubs, limit_s: float) -> None:
        self._hubs = hubs
        self._loop = asyncio.get_running_loop()
        self.allow(limit_s)

    def allow(self, limit_s: float, *failed: Hub) -> None:
        """Begin anew, with so much time, after a hub has answered, and failed then."""
        self._give_up_at = self._loop.time() + limit_s
        self._tried = {*failed}
        self._pauses = backoff_s(FIRST_PAUSE_S, LONGEST_PAUSE_S)

    async def next(self) -> Hub | None:
        """The next hub to try; after all have failed, all of them again, a moment later. None: it is time to give up.

        The same hub comes again where there is no other one: its address may be that of several, or of its successor.
        """
        hub = self._hubs.choose(self._tried)
        if hub is None:
            left_s = self._give_up_at - self._loop.time()
            if left_s <= 0:
                return None
            await self._pause(min(next(self._pauses), left_s))
            self._tried.clear()
            hub = self._hubs.choose()
        if hub is not None:
            self._tried.add(hub)
        return hub

    async def _pause(self, pause_s: float) -> None:
        """Wait, but no longer than until a hub has come back."""
        try:
            async with asyncio.timeout(pause_s):
                await self._hubs.ready.wait()
        except TimeoutError:
            pass
