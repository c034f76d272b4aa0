"""A broker in memory, as far as both ends of replies ask one: replies, and a hub's doorbell."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from common.broker.shapes import Fields
from common.errors import BrokerUnavailable, WireError
from common.streams.replies import ReplyWrite, Written
from common.succession import LoggedEntry
from common.types import RequestId
from common.wire import EntryId
from tests.unit.virtual_time import now_s

OPENED = EntryId(0, 1)


class Shelf:
    """The replies. `is_away`: nobody reaches the broker."""

    def __init__(self) -> None:
        self.replies: dict[str, list[LoggedEntry] | WireError] = {}
        self.is_away = False
        self.tries = 0
        """How often somebody asked while it was away."""
        self.kept: list[tuple[float, tuple[str, ...], int]] = []
        """When which replies were renewed, and for how long (ms)."""
        self.restored: list[str] = []
        self.reads: list[tuple[int, int]] = []
        """Of each read: how many replies, and how many entries of each at most."""

        self.renewals = 0
        """Connections of a provider's line that were made anew."""
        self.write_takes_s = 0.0
        self.answers_to_lose = 0
        """Of so many writes: what was written stays, and nobody hears of it."""
        self.on_write: Callable[[], None] | None = None
        """Happens once, on the way of the next write."""
        self.rung: set[tuple[str, RequestId]] = set()
        """Which bells were rung for which requests."""
        self.refused: set[str] = set()
        """Replies that take nothing."""
        self.writes: list[tuple[float, list[str]]] = []
        """When what was written."""
        self.looks: list[tuple[float, list[str]]] = []
        """When which replies' newest entries were asked for."""

    def say(self, reply: str, *entries: LoggedEntry) -> None:
        """Entries come in."""
        held = self.replies.setdefault(reply, [])
        assert isinstance(held, list)
        held += entries

    async def keep(self, replies: Sequence[str], ttl_ms: int) -> list[bool]:
        self.reach()
        assert ttl_ms > 0
        self.kept.append((now_s(), tuple(replies), ttl_ms))
        return [reply in self.replies for reply in replies]

    async def last_ids(self, replies: Sequence[str]) -> list[EntryId | None]:
        self.reach()
        return [self._last(reply) for reply in replies]

    async def restore(self, reply: str, entries: Sequence[LoggedEntry], ttl_ms: int) -> bool:
        self.reach()
        assert ttl_ms > 0
        was_lost = reply not in self.replies
        self.restored.append(reply)
        last = self._last(reply) or OPENED
        self.say(reply, *(one for one in entries if one[0] > last))
        return was_lost

    async def read(self, after: Mapping[str, EntryId], count: int) -> dict[str, list[LoggedEntry] | WireError]:
        self.reach()
        self.reads.append((len(after), count))
        found: dict[str, list[LoggedEntry] | WireError] = {}
        for reply, last in after.items():
            held = self.replies.get(reply, [])
            news = held if isinstance(held, WireError) else [one for one in held if one[0] > last][:count]
            if news:
                found[reply] = news
        return found

    async def write(self, writes: Sequence[ReplyWrite], *, since: int | None = None) -> list[Written]:
        self.reach()
        if (event := self.on_write) is not None:
            self.on_write = None
            event()
        if since is not None and since != self.renewals:
            return [Written.UNSENT] * len(writes)
        self.writes.append((now_s(), [f"{one.reply} {one.id}" for one in writes]))
        self.rung |= {(one.doorbell, one.request) for one in writes}
        await asyncio.sleep(self.write_takes_s)
        written = [self._write(one) for one in writes]
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise BrokerUnavailable("the answer was lost")
        return written

    async def newest(self, replies: Sequence[str]) -> list[tuple[EntryId, Fields] | None]:
        self.reach()
        self.looks.append((now_s(), [*replies]))
        return [self._newest(reply) for reply in replies]

    def _write(self, write: ReplyWrite) -> Written:
        last = self._last(write.reply)
        if last is None:
            return Written.GONE
        if write.reply in self.refused:
            return Written.REFUSED
        if write.id <= last:
            return Written.FENCED
        self.say(write.reply, (write.id, write.entry))
        return Written.YES

    def _newest(self, reply: str) -> tuple[EntryId, Fields] | None:
        held = self.replies.get(reply)
        if not isinstance(held, list):
            return None
        return (held[-1][0], held[-1][1].to_fields()) if held else (OPENED, {b"open": b"1"})

    def _last(self, reply: str) -> EntryId | None:
        held = self.replies.get(reply)
        return held[-1][0] if isinstance(held, list) and held else None if held is None else OPENED

    def reach(self) -> None:
        """Raise BrokerUnavailable while it is away."""
        if self.is_away:
            self.tries += 1
            raise BrokerUnavailable("away")


class Bell:
    """The doorbell: it tells again what it told when it is heard again from its beginning."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._rung = asyncio.Condition()
        self._told: list[RequestId] = []
        self._heard = 0
        self.kept_ms: list[int] = []
        self.waits = 0
        """How often it was listened to."""

    async def ring(self, *requests: str) -> None:
        self._told += map(RequestId, requests)
        async with self._rung:
            self._rung.notify_all()

    async def keep(self, ttl_ms: int) -> None:
        self._shelf.reach()
        assert ttl_ms > 0
        self.kept_ms.append(ttl_ms)

    def hear_again(self) -> None:
        self._heard = 0

    async def wait(self, block_ms: int) -> set[RequestId]:
        self._shelf.reach()
        self.waits += 1
        assert block_ms > 0, "that would wait for ever"
        try:
            async with asyncio.timeout(block_ms / 1000), self._rung:
                await self._rung.wait_for(lambda: len(self._told) > self._heard)
        except TimeoutError:
            return set()
        news, self._heard = self._told[self._heard :], len(self._told)
        return set(news)
