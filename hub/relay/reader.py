"""The ReplyReader: one blocked read on the hub's doorbell for all its requests, whatever their number.

A doorbell is a hint. Once a second every open reply is looked at, so a lost ring costs a second and never a token.
"""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from common.errors import BrokerError, WireError
from common.streams.replies import Doorbell, ReplyStreams
from common.tasks import backoff_s
from common.types import RequestId
from common.wire import ReplyEntry
from hub.relay.inbox import Inbox

log = structlog.get_logger()

LOOK_AT_ALL_S = 1.0
REPLIES_PER_READ = 100
"""The broker's cost of one read grows with its keys; a hundred keep it near 0.1 ms (measured, pitfalls 3.2)."""
ENTRIES_PER_READ = 16
"""Of one reply: an entry may be as large as a provider's reply buffer, and all are held at once."""
KEEP_S = 5.0
TICK_S = 0.5


class ReplyReader:
    """Brings entries from the broker to the inboxes of this hub's open requests."""

    def __init__(self, doorbell: Doorbell, streams: ReplyStreams, *, reply_ttl_ms: int, inbox_bytes: int) -> None:
        self._doorbell = doorbell
        self._streams = streams
        self._reply_ttl_ms = reply_ttl_ms
        self._inbox_bytes = inbox_bytes
        self._inboxes: dict[RequestId, Inbox] = {}
        self._fetching = asyncio.Lock()

    @property
    def open_count(self) -> int:
        """How many replies are being read."""
        return len(self._inboxes)

    def open(self, request: RequestId, reply: str) -> Inbox:
        """Begin to read a reply."""
        inbox = Inbox(request, reply, self._inbox_bytes)
        self._inboxes[request] = inbox
        return inbox

    def close(self, inbox: Inbox) -> None:
        """Read a reply no more."""
        self._inboxes.pop(inbox.request, None)

    async def is_kept(self, inbox: Inbox) -> bool:
        """Whether the broker still has a reply; BrokerError if it does not say."""
        return (await self._streams.keep([inbox.reply], self._reply_ttl_ms))[0]

    async def resume(self, inbox: Inbox) -> None:
        """Read on where a slow client has caught up."""
        await self._fetch([inbox])

    async def run(self) -> None:
        """Follow the doorbell until cancelled."""
        loop = asyncio.get_running_loop()
        waits = backoff_s(0.05, 2)
        look_at = loop.time() + LOOK_AT_ALL_S
        while True:
            try:
                block_ms = max(1, int((look_at - loop.time()) * 1000))
                rung = await self._doorbell.wait(block_ms)
                for one in rung:
                    if (inbox := self._inboxes.get(one)) is not None:
                        inbox.ring()
                if loop.time() >= look_at:
                    look_at = loop.time() + LOOK_AT_ALL_S
                    await self._fetch([*self._inboxes.values()])
                else:
                    await self._fetch(self._inboxes[one] for one in rung if one in self._inboxes)
                waits = backoff_s(0.05, 2)
            except BrokerError as exc:
                pause = next(waits)
                log.warning("broker_unavailable", doing="read", error=str(exc), retry_in_s=round(pause, 2))
                await asyncio.sleep(pause)
                look_at = loop.time()

    async def keep(self) -> None:
        """Renew the open replies until cancelled, and tell the inboxes of those that are gone."""
        while True:
            await asyncio.sleep(KEEP_S)
            inboxes = [inbox for inbox in self._inboxes.values() if not inbox.is_unborn]
            try:
                kept = (
                    await self._streams.keep([inbox.reply for inbox in inboxes], self._reply_ttl_ms) if inboxes else []
                )
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="keep", error=str(exc))
                continue
            for inbox, is_there in zip(inboxes, kept, strict=True):
                if not is_there:
                    inbox.is_lost = True
                    inbox.poke()

    async def tick(self) -> None:
        """Poke every inbox now and then until cancelled: one timer for all clocks of all requests."""
        while True:
            await asyncio.sleep(TICK_S)
            for inbox in self._inboxes.values():
                inbox.poke()

    async def _fetch(self, inboxes: Iterable[Inbox]) -> None:
        async with self._fetching:
            left = {inbox.reply: inbox for inbox in inboxes}
            while left := await self._fetch_once(left):
                pass

    async def _fetch_once(self, inboxes: Mapping[str, Inbox]) -> dict[str, Inbox]:
        """Read a first part of these replies; those that may hold more."""
        for inbox in inboxes.values():
            inbox.was_skipped = inbox.is_full
        replies = [reply for reply, inbox in inboxes.items() if not inbox.is_full]
        left: dict[str, Inbox] = {}
        for at in range(0, len(replies), REPLIES_PER_READ):
            after = {reply: inboxes[reply].last for reply in replies[at : at + REPLIES_PER_READ]}
            for reply, entries in (await self._streams.read(after, ENTRIES_PER_READ)).items():
                inbox = inboxes[reply]
                try:
                    inbox.deliver([(one, ReplyEntry.from_fields(fields)) for one, fields in entries])
                except WireError as exc:
                    log.error("reply_unreadable", request=inbox.request, error=str(exc))
                    inbox.is_lost = True
                    inbox.poke()
                else:
                    if len(entries) == ENTRIES_PER_READ:
                        left[reply] = inbox
        return left
