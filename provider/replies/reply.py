"""One attempt's side of a reply: what waits to be written, and all that the broker is to have of it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from common.broker.shapes import Fields
from common.streams.replies import ReplyWrite
from common.succession import LoggedEntry
from common.wire import EntryId, Job, ReplyEntry

_HEAD_FIELDS = ("claim", "start", "end", "error", "release")
_NO_HEAD = ReplyEntry()


class ReplyState(Enum):
    """Whether a reply still takes entries."""

    OPEN = "open"
    GONE = "gone"
    """The request is over: its client left, or nobody kept the reply."""
    FENCED = "fenced"
    """Another attempt has taken over, or another node this very one."""
    LOST = "lost"
    """The broker was away for too long, or will not take it."""


class Pump(Protocol):
    """What replies need of the writer."""

    def notice(self, reply: "Reply") -> None:
        """Something waits to be written."""

    def owes(self, reply: "Reply") -> bool:
        """Whether something of this reply is not yet at the broker."""

    def miss(self, reply: "Reply") -> None:
        """Somebody has seen that the broker does not have this reply."""

    def forget(self, reply: "Reply") -> None:
        """Its job has ended."""


class Reply:
    """One attempt's side of a reply. Entries put while a write is in flight become one.

    It keeps all that was written, and what is known of earlier attempts, until `close`: a broker may forget its end, or
    all of it, and is told again then.
    """

    def __init__(self, pump: Pump, job: Job, doorbell: str, on_over: Callable[[ReplyState], None]) -> None:
        self.job = job
        self.state = ReplyState.OPEN
        self.events = 0
        """So many of a stream has this attempt brought so far, about as many as tokens; its relay counts them."""
        self.first_data_at = 0.0
        """When the first data was put, by `time.monotonic`; 0 before."""
        self._doorbell = doorbell
        self._pump = pump
        self._on_over = on_over
        self._head = _NO_HEAD
        self._data: list[bytes] = []
        self._waiting_bytes = 0
        self._first_n = 0
        self._earlier: list[LoggedEntry] = []
        self._own: list[ReplyEntry | bytes] = []
        """What was taken, numbered from `_first_n` without a gap; nearly all of them are nothing but data."""
        self._moved = asyncio.Event()

    def put(self, entry: ReplyEntry) -> None:
        """Add what an entry holds to the next write. After a last entry nothing may follow."""
        if entry.data:
            self.first_data_at = self.first_data_at or time.monotonic()
            self._data.append(entry.data)
            self._waiting_bytes += len(entry.data)
        changes = {name: value for name in _HEAD_FIELDS if (value := getattr(entry, name)) is not None}
        if changes:
            self._head = self._head._replace(**changes)
        self._pump.notice(self)

    def put_data(self, data: bytes) -> None:
        """Add whole events to the next write."""
        self._data.append(data)
        self._waiting_bytes += len(data)
        self._pump.notice(self)

    async def room(self, limit_bytes: int) -> None:
        """Wait until less than so much waits to be written, or the reply is over."""
        while self._waiting_bytes >= limit_bytes and self.state is ReplyState.OPEN:
            await self._wait_move()

    async def flushed(self) -> ReplyState:
        """Wait until all that was put is at the broker, or the reply is over."""
        while self.state is ReplyState.OPEN and self._pump.owes(self):
            await self._wait_move()
        return self.state

    def continue_after(self, last: EntryId) -> None:
        """Number the next entry after one that is in the reply already."""
        if last.attempt == self.job.attempt:
            self._first_n = last.n + 1

    def remember(self, earlier: Sequence[LoggedEntry]) -> None:
        """Keep what earlier attempts have said, all of it and in order."""
        self._earlier = [*earlier]

    def said(self) -> bytes:
        """All data of this attempt that were put so far."""
        return b"".join([one if isinstance(one, bytes) else one.data for one in self._own] + self._data)

    def miss(self) -> None:
        """Somebody has seen that the broker does not have it."""
        self._pump.miss(self)

    def drop(self) -> None:
        """Nobody wants it any more: nothing of it is written, and nobody waits for that."""
        if self.state is ReplyState.OPEN:
            self.state = ReplyState.GONE
        self._moved.set()

    def close(self) -> None:
        """Its job has ended."""
        self._pump.forget(self)

    # what the pump does with it

    @property
    def has_news(self) -> bool:
        """Whether something was put that was not taken yet."""
        return bool(self._data) or self._head is not _NO_HEAD

    @property
    def has_spoken(self) -> bool:
        """Whether anything was taken from it yet."""
        return bool(self._own)

    def take(self) -> ReplyWrite:
        """The next write: all that was put since the last one."""
        data = b"".join(self._data)
        said = data if self._head is _NO_HEAD else self._head._replace(data=data)
        self._own.append(said)
        self._head = _NO_HEAD
        self._data = []
        self._waiting_bytes = 0
        return self._write_of(len(self._own) - 1)

    def lacking(self, last: EntryId, fields: Fields) -> list[ReplyWrite] | None:
        """What of all that was taken is missing behind the newest entry; None: another has taken over.

        Two nodes may hold the same attempt, where a broker has forgotten that it gave the job out: the first of them
        whose claim stands has it.
        """
        missing_from = 0
        if last >= (self.job.attempt, self._first_n):
            at = last.n - self._first_n
            is_ours = last.attempt == self.job.attempt and at < len(self._own)
            if not is_ours or self._write_of(at).entry.to_fields() != fields:
                return None
            missing_from = at + 1
        earlier = [self._write(*one) for one in self._earlier if one[0] > last]
        return earlier + [self._write_of(at) for at in range(missing_from, len(self._own))]

    def settle(self, state: ReplyState) -> None:
        """Take note of how the last write went."""
        if state is not ReplyState.OPEN and self.state is ReplyState.OPEN:
            self.state = state
            self._on_over(state)
        self._moved.set()

    def _write_of(self, at: int) -> ReplyWrite:
        said = self._own[at]
        entry = ReplyEntry(data=said) if isinstance(said, bytes) else said
        return self._write(EntryId(self.job.attempt, self._first_n + at), entry)

    def _write(self, entry_id: EntryId, entry: ReplyEntry) -> ReplyWrite:
        return ReplyWrite(self.job.reply, self._doorbell, self.job.id, entry_id, entry)

    async def _wait_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()
