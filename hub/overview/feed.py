"""What changes of the snapshot, told to all who watch it: looked at once a second for all of them together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson
import structlog

from hub.errors import RequestFailed, TooManyReaders
from hub.overview.merge_patch import merge_patch
from hub.overview.snapshot import Overview

log = structlog.get_logger()

STEP_S = 1.0
MOST_UNREAD = 8
"""Patches that wait for a watcher; one that is further behind gets the whole anew."""


class News(NamedTuple):
    """What watchers hear: `snapshot` (the whole), `patch` (RFC 7396), or `trouble` (why there is nothing new)."""

    event: str
    data: str


class _Watcher:
    def __init__(self) -> None:
        self.unread: deque[News] = deque()
        self.wants_whole = True
        self.rung = asyncio.Event()

    def tell(self, news: News) -> None:
        if len(self.unread) >= MOST_UNREAD:
            self.unread.clear()
            self.wants_whole = True
        if not self.wants_whole or news.event == "trouble":
            self.unread.append(news)
        self.rung.set()


class OverviewFeed:
    """One hub's watchers."""

    def __init__(self, overview: Overview, most_watchers: int) -> None:
        self._overview = overview
        self._most = most_watchers
        self._watchers: set[_Watcher] = set()
        self._watched = asyncio.Event()
        self._state: dict[str, Any] | None = None
        self._is_closed = False

    async def watch(self) -> AsyncIterator[News]:
        """The snapshot, then each change, until nobody reads or the hub stops.

        Raises:
            TooManyReaders: as many watch as may.
            BrokerAway: there is nothing to show.
        """
        if len(self._watchers) >= self._most:
            raise TooManyReaders("as many watch this hub as may", retry_after_s=5)
        if self._state is None:
            self._state = await self._overview.take()
        return self._follow(_Watcher())

    async def run(self) -> None:
        """Look once a second while somebody watches, until cancelled."""
        while True:
            await self._watched.wait()
            await self._step()
            await asyncio.sleep(STEP_S)
            if not self._watchers:
                self._watched.clear()
                self._state = None

    def close(self) -> None:
        """End what everybody watches: the hub stops."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.rung.set()

    async def _step(self) -> None:
        try:
            after = await self._overview.take()
        except RequestFailed as exc:
            trouble = News("trouble", orjson.dumps({"code": exc.code, "message": exc.message}).decode())
            self._tell(trouble)
            return
        before, self._state = self._state, after
        patch = merge_patch(before, after) if before is not None else {}
        self._tell(News("patch", orjson.dumps(patch).decode()) if patch.keys() - {"at"} else None)

    def _tell(self, news: News | None) -> None:
        for watcher in self._watchers:
            if news is not None:
                watcher.tell(news)
            elif watcher.wants_whole:
                watcher.rung.set()

    async def _follow(self, watcher: _Watcher) -> AsyncIterator[News]:
        self._watchers.add(watcher)
        self._watched.set()
        try:
            while not self._is_closed:
                while watcher.unread:
                    yield watcher.unread.popleft()
                if watcher.wants_whole and self._state is not None:
                    watcher.wants_whole = False
                    watcher.unread.clear()
                    yield News("snapshot", orjson.dumps(self._state).decode())
                    continue
                watcher.rung.clear()
                await watcher.rung.wait()
        finally:
            self._watchers.discard(watcher)
