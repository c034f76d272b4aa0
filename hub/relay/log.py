"""What has come of one reply, kept as long as its request: with it a hub restores what the broker lost."""

import asyncio
from collections.abc import Sequence

from common.succession import LoggedEntry
from common.wire import ReplyEntry

LEAST_BYTES = 200
"""An entry takes so much even if it has less data, or none: a provider may write millions of those."""


def held_bytes(entry: ReplyEntry) -> int:
    """How much counts of an entry against what may be held."""
    return max(LEAST_BYTES, len(entry.data))


class ReplyLog:
    """The entries of one reply, in order and each once. Whoever reads along waits for more with `wait_beyond`.

    Args:
        limit_bytes: past so much data nothing is kept, and nothing can be restored or read again.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._entries: list[LoggedEntry] = []
        self._readers: set[asyncio.Future[None]] = set()
        self._held_bytes = 0
        self.bytes = 0
        """Of data, kept or not."""
        self.is_closed = False
        """Whether nothing more will come."""

    @property
    def is_whole(self) -> bool:
        """Whether everything that came is still here."""
        return self._held_bytes <= self._limit_bytes

    @property
    def entries(self) -> Sequence[LoggedEntry]:
        """All of them, if it is whole."""
        return self._entries

    def add(self, logged: LoggedEntry, held: int) -> None:
        """Add the next one, which counts for so much."""
        self.bytes += len(logged[1].data)
        self._held_bytes += held
        if self._held_bytes <= self._limit_bytes:
            self._entries.append(logged)
        else:
            self._entries = []
        if self._readers:
            self._wake()

    def close(self) -> None:
        """Nothing more will come."""
        self.is_closed = True
        self._wake()

    async def wait_beyond(self, count: int) -> None:
        """Wait until there are more entries than so many, or until it is closed or no longer whole."""
        while len(self._entries) <= count and not self.is_closed and self.is_whole:
            reader = asyncio.get_running_loop().create_future()
            self._readers.add(reader)
            try:
                await reader
            finally:
                self._readers.discard(reader)

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
