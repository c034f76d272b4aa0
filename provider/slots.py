"""The slots: how many requests may run on the engine at once. Jobs and direct calls share them."""

import asyncio
import time
from collections.abc import Callable


class Slots:
    """Counts what runs; `changed` is set whenever one is taken or freed.

    `others`: how many are taken by requests that did not come through this provider, where that is to count.
    """

    def __init__(self, total: Callable[[], int]) -> None:
        self._total = total
        self._taken = 0
        self._freed_at_s = float("-inf")
        self.others = 0
        self.changed = asyncio.Event()

    @property
    def total(self) -> int:
        """How many there are."""
        return self._total()

    @property
    def taken(self) -> int:
        """How many requests run through this provider."""
        return self._taken

    @property
    def free(self) -> int:
        """How many more may run. Jobs that are running stay, even if the engine now says it has fewer slots."""
        return max(0, self.total - self._taken - self.others)

    def take(self) -> None:
        """Take one; whoever takes it has looked at `free` in the same step."""
        self._taken += 1
        self.changed.set()

    def give_back(self) -> None:
        """Free one."""
        self._taken -= 1
        self._freed_at_s = time.monotonic()
        self.changed.set()

    def worked_within(self, seconds: float) -> bool:
        """Whether a request runs, or one ended so recently."""
        return self._taken > 0 or time.monotonic() - self._freed_at_s < seconds
