"""The ReplyReader: one blocked read on the hub's doorbell for all its requests, whatever their number.

A doorbell is a hint. Once a second every open reply is looked at, so a lost ring costs a second and never a token.
"""

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from common.broker.reconnections import CountedReconnections, Reconnections
from common.errors import BrokerError, WireError
from common.streams.replies import Doorbell, ReplyStreams
from common.succession import LoggedEntry
from common.tasks import backoff_s
from common.types import RequestId
from common.wire import EntryId
from hub.relay.inbox import Inbox

log = structlog.get_logger()

LOOK_AT_ALL_S = 1.0
REPLIES_PER_READ = 100
"""The broker's cost of one read grows with its keys; a hundred keep it near 0.1 ms (measured, pitfalls 3.2)."""
ENTRIES_PER_READ = 16
"""Of one reply: an entry may be as large as a provider's reply buffer, and all are held at once."""
READS_AT_ONCE = 16
"""Of one reply: whoever says more than that at once is read on after the others had their turn."""
KEEP_S = 5.0
"""Between two renewals, at most; three come within a reply's TTL."""
TICK_S = 0.5
"""Between two looks of a request at its clocks, as long as there are not too many."""
POKES_AT_ONCE = 100
"""They look one behind the other, and nothing else is done meanwhile: 1 to 2 ms for so many."""
POKE_GAP_S = 0.025
"""At least, between so many and the next: 8,000 requests look at their clocks every 2 s, which takes 3 % of a core."""
SLEPT_S = 2.0
"""A tick that comes so late, s, shows that this process was stopped, or its machine asleep."""
DOORBELL_TTL_MS = 60_000


class ReplyReader:
    """Brings entries from the broker to the inboxes of this hub's open requests, and back what the broker lost.

    `reconnections`: of the broker's connections; when one was made again, things may have been lost meanwhile.
    """

    def __init__(
        self,
        doorbell: Doorbell,
        streams: ReplyStreams,
        *,
        reply_ttl_ms: int,
        inbox_bytes: int,
        reconnections: Reconnections | None = None,
    ) -> None:
        self._doorbell = doorbell
        self._streams = streams
        self._reply_ttl_ms = reply_ttl_ms
        self._inbox_bytes = inbox_bytes
        self._reconnections = reconnections or CountedReconnections()
        self._seen_reconnections = self._reconnections.count
        self._inboxes: dict[RequestId, tuple[Inbox, ...]] = {}
        self._fetching = asyncio.Lock()
        self._was_away = False
        """The broker was, or this process: others may have taken it for dead and called off what it reads."""

    @property
    def open_count(self) -> int:
        """How many replies are being read."""
        return len(self._inboxes)

    def open(self, request: RequestId, reply: str, *, log_bytes: int | None = None) -> Inbox:
        """Begin to read a reply that this hub looks after."""
        return self._add(Inbox(request, reply, self._inbox_bytes, log_bytes=log_bytes))

    def follow(self, request: RequestId, reply: str, *, log_bytes: int) -> Inbox:
        """Begin to read a reply that another hub looks after, from its beginning."""
        return self._add(Inbox(request, reply, self._inbox_bytes, log_bytes=log_bytes, is_own=False))

    def close(self, inbox: Inbox) -> None:
        """Read a reply no more."""
        left = tuple(one for one in self._inboxes.get(inbox.request, ()) if one is not inbox)
        if left:
            self._inboxes[inbox.request] = left
        else:
            self._inboxes.pop(inbox.request, None)

    async def check(self, inbox: Inbox) -> None:
        """See whether the broker still has a reply, and give it back if not; BrokerError if it does not say."""
        if not (await self._streams.keep([inbox.reply], self._reply_ttl_ms))[0]:
            await self._restore([inbox])

    async def heard(self, requests: Iterable[RequestId]) -> None:
        """A doorbell named these requests: bring what is new of those that are read here."""
        rung = [inbox for one in requests for inbox in self._inboxes.get(one, ())]
        for inbox in rung:
            inbox.ring()
        await self.fetch(rung)

    async def run(self) -> None:
        """Follow the doorbell until cancelled."""
        loop = asyncio.get_running_loop()
        waits = backoff_s(0.05, 1)
        look_at = loop.time() + LOOK_AT_ALL_S
        while True:
            try:
                if self._was_away or self._reconnections.count != self._seen_reconnections:
                    await self._recover()
                block_ms = max(1, int((look_at - loop.time()) * 1000))
                await self.heard(await self._doorbell.wait(block_ms))
                if loop.time() >= look_at:
                    look_at = loop.time() + LOOK_AT_ALL_S
                    await self.fetch(self._all())
                waits = backoff_s(0.05, 1)
            except BrokerError as exc:
                self._was_away = True
                pause = next(waits)
                log.warning("broker_unavailable", doing="read", error=str(exc), retry_in_s=round(pause, 2))
                await asyncio.sleep(pause)
                look_at = loop.time()

    async def keep(self) -> None:
        """Renew the open replies until cancelled; those that are gone are restored."""
        while True:
            await asyncio.sleep(min(KEEP_S, self._reply_ttl_ms / 3000))
            inboxes = [inbox for inbox in self._all() if inbox.is_own and not inbox.is_unborn]
            try:
                kept = (
                    await self._streams.keep([inbox.reply for inbox in inboxes], self._reply_ttl_ms) if inboxes else []
                )
                await self._restore([inbox for inbox, is_there in zip(inboxes, kept, strict=True) if not is_there])
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="keep", error=str(exc))

    async def tick(self) -> None:
        """Poke every inbox now and then until cancelled: one timer for all clocks of all requests."""
        pause_s = TICK_S
        while True:
            await self._doze(pause_s)
            inboxes = self._all()
            starts = range(0, len(inboxes), POKES_AT_ONCE)
            pause_s = max(POKE_GAP_S, TICK_S / max(1, len(starts)))
            for start in starts:
                if start:
                    await self._doze(pause_s)
                for inbox in inboxes[start : start + POKES_AT_ONCE]:
                    inbox.poke()

    async def _doze(self, pause_s: float) -> None:
        """Sleep, and see whether the machine or this process was stopped meanwhile."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(pause_s)
        self._was_away |= loop.time() - began > pause_s + SLEPT_S

    async def fetch(self, inboxes: Iterable[Inbox]) -> None:
        """Bring what is new in these replies, as far as their clients keep up.

        All of it, but of one that says without end: its handler asks for more, and waits for its turn like others.
        """
        async with self._fetching:
            left = list(inboxes)
            for _ in range(READS_AT_ONCE):
                if not left:
                    return
                left = await self._fetch_once(left)
            for inbox in left:
                inbox.was_skipped = True
                inbox.poke()

    def _add(self, inbox: Inbox) -> Inbox:
        self._inboxes[inbox.request] = (*self._inboxes.get(inbox.request, ()), inbox)
        return inbox

    def _all(self) -> list[Inbox]:
        return [inbox for some in self._inboxes.values() for inbox in some]

    async def _fetch_once(self, inboxes: Sequence[Inbox]) -> list[Inbox]:
        """Read a first part of these replies; those that may hold more."""
        for inbox in inboxes:
            inbox.was_skipped = inbox.is_full
        wanted = {inbox.reply: inbox for inbox in inboxes if not inbox.is_full}
        left = [inbox for inbox in inboxes if not inbox.is_full and wanted[inbox.reply] is not inbox]
        replies = list(wanted)
        for at in range(0, len(replies), REPLIES_PER_READ):
            after = {reply: wanted[reply].last for reply in replies[at : at + REPLIES_PER_READ]}
            for reply, entries in (await self._streams.read(after, ENTRIES_PER_READ)).items():
                inbox = wanted[reply]
                if isinstance(entries, WireError):
                    log.error("reply_unreadable", request=inbox.request, error=str(entries))
                    inbox.is_lost = True
                    inbox.poke()
                    continue
                inbox.deliver(entries)
                if len(entries) == ENTRIES_PER_READ:
                    left.append(inbox)
        return left

    async def _recover(self) -> None:
        """The broker is back: see what it lost, and give it back."""
        seen, self._was_away = self._reconnections.count, False
        self._doorbell.hear_again()
        await self._doorbell.keep(DOORBELL_TTL_MS)
        await self._restore([inbox for inbox in self._all() if inbox.is_own and not inbox.is_unborn])
        self._seen_reconnections = seen

    async def _restore(self, inboxes: Sequence[Inbox]) -> None:
        newest = await self._streams.last_ids([inbox.reply for inbox in inboxes]) if inboxes else []
        for inbox, last in zip(inboxes, newest, strict=True):
            if inbox not in self._inboxes.get(inbox.request, ()):  # its request has ended since
                continue
            if last is None or last < inbox.last:
                known: Sequence[LoggedEntry] = inbox.log.entries if inbox.log.is_whole else ()
                was_lost = await self._streams.restore(inbox.reply, _newer(known, last), self._reply_ttl_ms)
                log.warning("reply_restored", request=inbox.request, was_lost=was_lost, entries=len(known))
            inbox.shake()


def _newer(entries: Sequence[LoggedEntry], last: EntryId | None) -> Sequence[LoggedEntry]:
    return entries if last is None else [one for one in entries if one[0] > last]
