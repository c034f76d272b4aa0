"""The ReplyWriter: everything all jobs of this provider say goes to the broker through one pump.

While one pipeline is in flight the next one fills, so the cost of a token falls as the load rises. After a pause a few
writes go out at once, so that a claim does not hold up the first token behind it; under load they keep the distance of
`flush_gap` on average, and less of it where few replies have news.
"""

import asyncio
from collections.abc import Callable, Sequence

from common.errors import BrokerError
from common.streams.replies import ReplyStreams, Written
from common.wire import Job
from provider.replies.reopening import ReopenWindow
from provider.replies.replay import Replay
from provider.replies.reply import Reply, ReplyState

AT_ONCE = 4
"""So many writes may go out without a gap after a pause of as many gaps."""
LEAST_GAP, FULL_WRITE = 0.25, 16
"""A write of few replies keeps but a part of the gap: a quarter of it, and a sixteenth more for each of them."""
LOOK_S = 0.2
"""How often to look for replies that are missing, and whether a connection was made anew."""


class ReplyWriter:
    """The pump. `run` is its task; replies are opened by jobs and closed at their end."""

    def __init__(
        self, streams: ReplyStreams, window: ReopenWindow, *, flush_gap_ms: float, broker_grace_s: float
    ) -> None:
        self._streams = streams
        self._replay = Replay(streams, window, on_reopened=self._go_on)
        self._gap_s = flush_gap_ms / 1000
        self._grace_s = broker_grace_s
        self._news: dict[Reply, None] = {}
        self._in_flight: frozenset[Reply] = frozenset()
        self._rung = asyncio.Event()

    def open(self, job: Job, doorbell: str, on_over: Callable[[ReplyState], None]) -> Reply:
        """Begin an attempt's reply; `on_over` is called once if the broker no longer takes its entries."""
        reply = Reply(self, job, doorbell, on_over)
        self._replay.add(reply)
        return reply

    def forget(self, reply: Reply) -> None:
        """Its job has ended."""
        self._replay.remove(reply)
        self._news.pop(reply, None)

    def notice(self, reply: Reply) -> None:
        """Remember that a reply has something to write."""
        if reply.state is ReplyState.OPEN and not self._replay.waits_for(reply):
            self._news[reply] = None
            self._rung.set()

    def owes(self, reply: Reply) -> bool:
        """Whether something of this reply is not yet at the broker."""
        return reply in self._news or reply in self._in_flight or self._replay.waits_for(reply)

    def miss(self, reply: Reply) -> None:
        """Somebody has seen that the broker does not have this reply: it is over, or has to be waited for."""
        self._replay.miss(reply)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="writer-watch")
            await self._pump()

    async def _watch(self) -> None:
        """Wake the pump where there is something to look at though nobody writes."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._replay.is_waiting or self._replay.since != self._streams.renewals:
                self._rung.set()

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        next_at = look_at = 0.0
        while True:
            await self._rung.wait()
            if (pause := next_at - loop.time()) > 0:
                await asyncio.sleep(pause)
            begins_at = max(next_at, loop.time() - AT_ONCE * self._gap_s)
            self._rung.clear()
            if self._replay.is_due:
                await self._replay.recover(self._grace_s, self.owes)
            elif self._replay.is_waiting and loop.time() >= look_at:
                look_at = loop.time() + LOOK_S
                await self._replay.look_for_missing()
            # What came while a write was lost stays unwritten too: an answer must have no hole.
            news, self._news = self._news, {}
            replies = [one for one in news if one.state is ReplyState.OPEN and not self._replay.waits_for(one)]
            next_at = begins_at + self._gap_s * min(1.0, LEAST_GAP + len(replies) / FULL_WRITE)
            if replies:
                await self._write(replies)

    async def _write(self, replies: Sequence[Reply]) -> None:
        """Write what these have; if it cannot be known whether that went well, bring all replies up to date."""
        self._in_flight = frozenset(replies)
        try:
            results = await self._streams.write([reply.take() for reply in replies], since=self._replay.since)
        except BrokerError as exc:
            self._replay.note_trouble(exc)
            results = [Written.UNSENT] * len(replies)
        if Written.UNSENT in results:  # all of them are
            await self._replay.recover(self._grace_s, self.owes)
        self._in_flight = frozenset()
        for reply, result in zip(replies, results, strict=True):
            self._note(reply, result)

    def _note(self, reply: Reply, result: Written) -> None:
        """Tell a reply how its write went."""
        match result:
            case Written.YES:
                self._replay.note_written(reply)
                reply.settle(ReplyState.OPEN)
            case Written.FENCED:
                reply.settle(ReplyState.FENCED)
            case Written.REFUSED if not self._replay.is_unsure_of(reply):
                reply.settle(ReplyState.LOST)
            case Written.GONE | Written.REFUSED:  # a broker that has forgotten a node's rights refuses what it says
                self._replay.miss(reply)
            case Written.UNSENT:
                reply.settle(reply.state)  # it is whole now, or missing, or over

    def _go_on(self, reply: Reply) -> None:
        """It was missing, and what was put meanwhile can be written now."""
        if reply.has_news:
            self.notice(reply)
