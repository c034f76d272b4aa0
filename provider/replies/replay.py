"""Keeps the open replies whole at a broker that may forget: what it lacks is written again.

A broker that was away may have lost the end of a reply, or all of it. So before anything new is written over a
connection that was made anew, every open reply is looked at. One that is missing altogether is its hub's to reopen, and
gets some time for that while the others go on.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

import structlog

from common.broker.shapes import Fields
from common.errors import BrokerError
from common.streams.replies import ReplyStreams, ReplyWrite, Written
from common.tasks import backoff_s
from common.wire import EntryId
from provider.replies.reopening import REOPEN_S, ReopenWindow
from provider.replies.reply import Reply, ReplyState

log = structlog.get_logger()

ENTRIES_PER_REPLAY = 500
"""Written again in one round trip."""


class Replay:
    """What is known of the open replies at the broker. `on_reopened` is called with each that was missing and is back.

    Only the pump that writes the replies calls what writes here: two writers would overtake each other.
    """

    def __init__(self, streams: ReplyStreams, window: ReopenWindow, on_reopened: Callable[[Reply], None]) -> None:
        self._streams = streams
        self._window = window
        self._on_reopened = on_reopened
        self._open: set[Reply] = set()
        self._unsure: set[Reply] = set()
        """Those not seen at the broker since it came back."""
        self._missing: dict[Reply, float] = {}
        """Those that it did not have then, and until when their hubs may reopen them (the loop's time)."""
        self._has_failed = False
        self.since = streams.renewals
        """The connections over which all open replies were last seen whole."""

    def add(self, reply: Reply) -> None:
        """It is open from now on."""
        self._open.add(reply)
        if self._window.is_open:
            self._unsure.add(reply)

    def remove(self, reply: Reply) -> None:
        """Its job has ended."""
        self._open.discard(reply)
        self._unsure.discard(reply)
        self._missing.pop(reply, None)

    @property
    def is_due(self) -> bool:
        """Whether the broker may have forgotten something since all replies were looked at: `recover` then."""
        return self._has_failed or self.since != self._streams.renewals

    @property
    def is_waiting(self) -> bool:
        """Whether a reply is missing."""
        return bool(self._missing)

    def waits_for(self, reply: Reply) -> bool:
        """Whether this reply is missing: nothing can be written to it."""
        return reply in self._missing

    def is_unsure_of(self, reply: Reply) -> bool:
        """Whether the broker came back a moment ago, and has not shown yet that it knows this reply."""
        return self._window.is_open and (reply in self._unsure or self.is_due)

    def note_written(self, reply: Reply) -> None:
        """The broker has taken an entry of it."""
        self._unsure.discard(reply)

    def note_trouble(self, error: BrokerError, retry_in_s: float = 0.0) -> None:
        """A command went wrong: nobody knows what the broker has taken, or will have forgotten when it is back."""
        self._has_failed = True
        self._window.note_trouble()
        self._missing = dict.fromkeys(self._missing, asyncio.get_running_loop().time() + REOPEN_S)
        log.warning("broker_unavailable", doing="write", error=str(error), retry_in_s=round(retry_in_s, 2))

    def miss(self, reply: Reply) -> None:
        """The broker does not have this reply: it is over, or has to be waited for."""
        # One that has said nothing yet loses nothing, and learns it from its first entry.
        if reply.state is not ReplyState.OPEN or reply in self._missing or not reply.has_spoken:
            return
        if self.is_unsure_of(reply):
            log.info("reply_missing", request=reply.job.id, attempt=reply.job.attempt, wait_s=REOPEN_S)
            self._missing[reply] = asyncio.get_running_loop().time() + REOPEN_S
        else:
            reply.settle(ReplyState.GONE)

    async def recover(self, grace_s: float, owes: Callable[[Reply], bool]) -> None:
        """Bring every open reply up to date; those that owe something are lost if that takes longer than the grace."""
        give_up_at = asyncio.get_running_loop().time() + grace_s
        for pause in backoff_s(0.05, 2):
            try:
                while not await self._mend_all():
                    pass  # a connection was made anew meanwhile: there are few, and each is noted once
            except BrokerError as exc:
                self.note_trouble(exc, retry_in_s=pause)
                if asyncio.get_running_loop().time() + pause > give_up_at:
                    self._lose([reply for reply in self._open if owes(reply)], exc)
                    return
            else:
                self._has_failed = False
                return
            await asyncio.sleep(pause)

    async def look_for_missing(self) -> None:
        """See whether their hubs have reopened them."""
        try:
            await self._mend([*self._missing])
        except BrokerError as exc:
            self.note_trouble(exc)

    def _lose(self, replies: Collection[Reply], error: BrokerError) -> None:
        for reply in replies:
            log.error("reply_lost", request=reply.job.id, attempt=reply.job.attempt, error=str(error))
            self._missing.pop(reply, None)
            reply.settle(ReplyState.LOST)

    async def _mend_all(self) -> bool:
        self.since = self._streams.renewals
        if self._window.is_open:
            self._unsure |= self._open
        return await self._mend(self._open)

    async def _mend(self, replies: Collection[Reply]) -> bool:
        """Write again what the broker lacks of these until a look finds them whole.

        False if a connection was made anew meanwhile: then nothing is sure.
        """
        while True:
            looked_at = [reply for reply in replies if reply.state is ReplyState.OPEN and reply.has_spoken]
            found = await self._streams.newest([reply.job.reply for reply in looked_at]) if looked_at else []
            owed = [one for reply, newest in zip(looked_at, found, strict=True) for one in self._judge(reply, newest)]
            if not owed:
                return self.since == self._streams.renewals
            if not await self._write_again(owed):
                return False

    def _judge(self, reply: Reply, newest: tuple[EntryId, Fields] | None) -> list[tuple[Reply, ReplyWrite]]:
        """What the broker lacks of a reply whose newest entry there is this one."""
        if newest is None:
            self._note_missing(reply)
            return []
        writes = reply.lacking(*newest)
        if writes is None:
            self._missing.pop(reply, None)
            reply.settle(ReplyState.FENCED)
            return []
        if not writes:
            self._note_whole(reply)
        return [(reply, write) for write in writes]

    async def _write_again(self, owed: Sequence[tuple[Reply, ReplyWrite]]) -> bool:
        """Write these, in order. False if a connection was made anew meanwhile."""
        level = logging.INFO if self._window.is_open else logging.DEBUG  # else the connection is but a new one
        log.log(level, "replies_replayed", replies=len({reply for reply, _ in owed}), entries=len(owed))
        for at in range(0, len(owed), ENTRIES_PER_REPLAY):
            part = owed[at : at + ENTRIES_PER_REPLAY]
            results = await self._streams.write([write for _, write in part], since=self.since)
            if Written.UNSENT in results:
                return False
            for (reply, _), result in zip(part, results, strict=True):
                if result is Written.REFUSED:
                    self._missing.pop(reply, None)
                    reply.settle(ReplyState.LOST)
        return True

    def _note_missing(self, reply: Reply) -> None:
        give_up_at = self._missing.get(reply)
        if give_up_at is None:
            self.miss(reply)
        elif asyncio.get_running_loop().time() >= give_up_at:
            del self._missing[reply]
            reply.settle(ReplyState.GONE)

    def _note_whole(self, reply: Reply) -> None:
        """The broker has all of it that was taken."""
        self._unsure.discard(reply)
        if self._missing.pop(reply, None) is not None:
            log.info("reply_reopened", request=reply.job.id, attempt=reply.job.attempt)
            self._on_reopened(reply)
            reply.settle(ReplyState.OPEN)
