"""What has come for one request and waits for its handler."""

import asyncio
from collections.abc import Sequence

from common.succession import Succession
from common.types import RequestId
from common.wire import EntryId, ReplyEntry
from hub.relay.log import ReplyLog, held_bytes


class Inbox:
    """Entries of one reply, in order and each once, on their way from the reader to the handler.

    Args:
        limit_bytes: past so much data the client is behind, and the reply is read on only when it has caught up.
        log_bytes: so much data is kept to restore the reply.
        is_own: this hub looks after the request: it keeps the reply, and restores it where the broker lost it.
    """

    def __init__(
        self, request: RequestId, reply: str, limit_bytes: int, *, log_bytes: int | None = None, is_own: bool = True
    ) -> None:
        self.request = request
        self.reply = reply
        self.is_own = is_own
        self.last = EntryId(0, 1)
        self.log = ReplyLog(limit_bytes if log_bytes is None else log_bytes)
        """All that came."""
        self.is_unborn = False
        """The reply is still to be opened in the broker: it is not lost because it is not there."""
        self.is_unread = False
        """What the reply says already was said to another hub, and may not have been read here yet."""
        self.is_lost = False
        """The reply cannot be read."""
        self.was_shaken = False
        """The broker was away or lost the reply: it may have lost the job too."""
        self.was_rung = False
        """The doorbell named this request though its reply is not opened yet: its turn may have come."""
        self.was_skipped = False
        """The reader left news in the broker: the client is behind, or the reply says without end."""
        self._succession = Succession()
        self._limit_bytes = limit_bytes
        self._entries: list[tuple[EntryId, ReplyEntry]] = []
        self._bytes = 0
        self._all_entries = 0
        self._is_poked = False
        self._handler: asyncio.Future[None] | None = None
        """Waits for news."""

    @property
    def is_full(self) -> bool:
        """Whether the client is so far behind that its reply should not be read on."""
        return self._bytes >= self._limit_bytes

    @property
    def entry_bytes(self) -> int:
        """How long its entries were on average so far; 0 before the first."""
        return self.log.bytes // max(1, self._all_entries)

    @property
    def broken_attempt(self) -> int:
        """The attempt some of whose words were lost, so that its further ones don't count; 0 if there is none."""
        return self._succession.broken_attempt

    @property
    def has_news(self) -> bool:
        """Whether there are entries to take."""
        return bool(self._entries)

    def deliver(self, entries: Sequence[tuple[EntryId, ReplyEntry]]) -> None:
        """Add entries that are newer than all before."""
        for logged in entries:
            entry_id, entry = logged
            if entry_id > self.last:
                self.last = entry_id
                if not self._succession.counts(entry_id):
                    continue
                held = held_bytes(entry)
                self._entries.append(logged)
                self._bytes += held
                self._all_entries += 1
                self.log.add(logged, held)
        self.poke()

    def take(self) -> list[tuple[EntryId, ReplyEntry]]:
        """All that has come."""
        entries, self._entries, self._bytes = self._entries, [], 0
        return entries

    def ring(self) -> None:
        """The doorbell named it: wake the handler of one whose reply is not opened yet."""
        if self.is_unborn:
            self.was_rung = True
            self.poke()

    def shake(self) -> None:
        """The broker may have lost the request's job."""
        self.was_shaken = True
        self.poke()

    def poke(self) -> None:
        """Wake the handler without news, so that it can look at its clocks."""
        self._is_poked = True
        if self._handler is not None and not self._handler.done():
            self._handler.set_result(None)

    async def wait(self) -> None:
        """Wait for news or a poke; only its one handler does."""
        if not self._is_poked:
            self._handler = asyncio.get_running_loop().create_future()
            try:
                await self._handler
            finally:
                self._handler = None
        self._is_poked = False
