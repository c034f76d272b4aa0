"""The ReplyWriter: everything all jobs of this provider say goes to the broker through one pump.

While one pipeline is in flight the next one fills, so the cost of a token falls as the load rises. An event that comes
`flush_gap` or more after the last write goes out at once; under load writes keep that distance.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import structlog

from common.errors import BrokerError
from common.streams.replies import ReplyStreams, ReplyWrite, Written
from common.tasks import backoff_s
from common.wire import EntryId, Job, ReplyEntry

log = structlog.get_logger()


class ReplyState(Enum):
    """Whether a reply still takes entries."""

    OPEN = "open"
    GONE = "gone"
    """The request is over: its client left, or nobody kept the reply."""
    FENCED = "fenced"
    """A newer attempt has taken over."""
    LOST = "lost"
    """The broker was away for too long, or will not take it."""


class Reply:
    """One attempt's side of a reply. Entries put while a write is in flight become one."""

    def __init__(self, writer: "ReplyWriter", job: Job, doorbell: str, on_over: Callable[[ReplyState], None]) -> None:
        self.job = job
        self.state = ReplyState.OPEN
        self._doorbell = doorbell
        self._writer = writer
        self._on_over = on_over
        self._head = ReplyEntry()
        self._data: list[bytes] = []
        self._waiting_bytes = 0
        self._next = EntryId(job.attempt, 0)
        self._moved = asyncio.Event()

    def put(self, entry: ReplyEntry) -> None:
        """Add what an entry holds to the next write. After a last entry nothing may follow."""
        if entry.data:
            self._data.append(entry.data)
            self._waiting_bytes += len(entry.data)
        changes = {name: value for name in _HEAD_FIELDS if (value := getattr(entry, name)) is not None}
        if changes:
            self._head = replace(self._head, **changes)
        self._writer.notice(self)

    def put_data(self, data: bytes) -> None:
        """Add whole events to the next write."""
        self._data.append(data)
        self._waiting_bytes += len(data)
        self._writer.notice(self)

    async def room(self, limit_bytes: int) -> None:
        """Wait until less than so much waits to be written, or the reply is over."""
        while self._waiting_bytes >= limit_bytes and self.state is ReplyState.OPEN:
            await self._wait_move()

    async def flushed(self) -> ReplyState:
        """Wait until all that was put is at the broker, or the reply is over."""
        while self.state is ReplyState.OPEN and self._writer.owes(self):
            await self._wait_move()
        return self.state

    def continue_after(self, last: EntryId) -> None:
        """Number the next entry after one that is in the reply already."""
        self._next = EntryId(self.job.attempt, last.n + 1) if last.attempt == self.job.attempt else self._next

    def take(self) -> ReplyWrite:
        """The next write: all that was put since the last one."""
        entry = replace(self._head, data=b"".join(self._data))
        write = ReplyWrite(self.job.reply, self._doorbell, self.job.id, self._next, entry)
        self._head = ReplyEntry()
        self._data = []
        self._waiting_bytes = 0
        self._next = EntryId(self._next.attempt, self._next.n + 1)
        return write

    def settle(self, state: ReplyState) -> None:
        """Take note of how the last write went."""
        if state is not ReplyState.OPEN and self.state is ReplyState.OPEN:
            self.state = state
            self._on_over(state)
        self._moved.set()

    async def _wait_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()


_HEAD_FIELDS = ("claim", "start", "end", "error", "release")


_STATES = {
    Written.GONE: ReplyState.GONE,
    Written.FENCED: ReplyState.FENCED,
    Written.REFUSED: ReplyState.LOST,
}


class ReplyWriter:
    """The pump. `run` is its task; replies are opened by jobs and closed by their last entry."""

    def __init__(self, streams: ReplyStreams, *, flush_gap_ms: float, broker_grace_s: float) -> None:
        self._streams = streams
        self._gap_s = flush_gap_ms / 1000
        self._grace_s = broker_grace_s
        self._news: dict[Reply, None] = {}
        self._in_flight: frozenset[Reply] = frozenset()
        self._rung = asyncio.Event()

    def open(self, job: Job, doorbell: str, on_over: Callable[[ReplyState], None]) -> Reply:
        """Begin an attempt's reply; `on_over` is called once if the broker no longer takes its entries."""
        return Reply(self, job, doorbell, on_over)

    def notice(self, reply: Reply) -> None:
        """Remember that a reply has something to write."""
        if reply.state is ReplyState.OPEN:
            self._news[reply] = None
            self._rung.set()

    def owes(self, reply: Reply) -> bool:
        """Whether something of this reply is not yet at the broker."""
        return reply in self._news or reply in self._in_flight

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        next_at = 0.0
        while True:
            await self._rung.wait()
            if (pause := next_at - loop.time()) > 0:
                await asyncio.sleep(pause)
            next_at = loop.time() + self._gap_s
            self._rung.clear()
            # What came while a write was lost stays unwritten too: an answer must have no hole.
            replies, self._news = [reply for reply in self._news if reply.state is ReplyState.OPEN], {}
            self._in_flight = frozenset(replies)
            states = await self._write([reply.take() for reply in replies])
            self._in_flight = frozenset()
            for reply, state in zip(replies, states, strict=True):
                reply.settle(state)

    async def _write(self, writes: list[ReplyWrite]) -> list[ReplyState]:
        """Write until the broker has answered for each; explicit ids make repeating it harmless."""
        give_up_at = asyncio.get_running_loop().time() + self._grace_s
        for attempt, pause in enumerate(backoff_s(0.05, 2)):
            try:
                results = await self._streams.write(writes)
                return [
                    await self._state_of(write, one, retried=attempt > 0)
                    for write, one in zip(writes, results, strict=True)
                ]
            except BrokerError as exc:
                if asyncio.get_running_loop().time() + pause > give_up_at:
                    log.error("reply_lost", requests=[write.request for write in writes], error=str(exc))
                    break
                log.warning("broker_unavailable", doing="write", error=str(exc), retry_in_s=round(pause, 2))
            await asyncio.sleep(pause)
        return [ReplyState.LOST] * len(writes)

    async def _state_of(self, write: ReplyWrite, result: Written, *, retried: bool) -> ReplyState:
        if result is Written.YES:
            return ReplyState.OPEN
        if result is Written.FENCED and retried:  # our own first try may have been written before its answer was lost
            last = await self._streams.last_id(write.reply)
            if last is not None and last.attempt == write.id.attempt:
                return ReplyState.OPEN
        return _STATES[result]
