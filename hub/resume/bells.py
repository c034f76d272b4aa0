"""The doorbells of other hubs, heard here for those who read answers that were asked for there.

A provider rings the hub that a reply is named after. Where that hub is dead, nobody else keeps its doorbell in the
broker, and one that is not there is not rung: whoever looks after a dead hub's request keeps it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from common.errors import BrokerError
from common.streams.replies import Doorbell
from common.tasks import backoff_s
from common.types import HubId
from hub.relay.reader import DOORBELL_TTL_MS, ReplyReader

log = structlog.get_logger()

AT_ONCE = 2
"""Each takes one of the few connections that may block, and this hub needs one for its own doorbell. Further ones take
turns; their readers wait at worst for the look at all replies, which comes each second."""
RENEW_S = 15.0


class _Bell:
    def __init__(self, doorbell: Doorbell) -> None:
        self.doorbell = doorbell
        self.listeners = 0
        self.keepers = 0
        self.renew_at = 0.0


class Bells:
    """Listens to each doorbell as long as anybody needs it.

    Args:
        doorbell_of: makes the doorbell of a hub.
        reader: told what was heard.
    """

    def __init__(self, doorbell_of: Callable[[HubId], Doorbell], reader: ReplyReader) -> None:
        self._doorbell_of = doorbell_of
        self._reader = reader
        self._bells: dict[HubId, _Bell] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(AT_ONCE)

    @contextmanager
    def heard(self, hub: HubId, *, keeps: bool = False) -> Iterator[None]:
        """Hear a hub's doorbell meanwhile; `keeps`: keep it in the broker too, its hub is dead."""
        bell = self._bells.get(hub)
        if bell is None:
            bell = self._bells[hub] = _Bell(self._doorbell_of(hub))
            task = asyncio.create_task(self._listen(hub, bell), name=f"doorbell {hub}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        bell.listeners += 1
        bell.keepers += keeps
        try:
            yield
        finally:
            bell.listeners -= 1
            bell.keepers -= keeps

    async def stop(self) -> None:
        """Hear nothing more."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    async def _listen(self, hub: HubId, bell: _Bell) -> None:
        """Ends with the first read that nobody needs: cutting a blocked one short would cost its connection."""
        loop = asyncio.get_running_loop()
        waits = backoff_s(0.05, 1)
        try:
            while bell.listeners:
                try:
                    async with self._places:
                        if bell.keepers and loop.time() >= bell.renew_at:
                            await bell.doorbell.keep(DOORBELL_TTL_MS)
                            bell.renew_at = loop.time() + RENEW_S
                        rung = await bell.doorbell.wait()
                    await self._reader.heard(rung)
                    waits = backoff_s(0.05, 1)
                except BrokerError as exc:
                    pause = next(waits)
                    log.warning("broker_unavailable", doing="doorbell", hub=hub, error=str(exc))
                    await asyncio.sleep(pause)
        finally:
            self._bells.pop(hub, None)
