"""The gate: any reason closes it, and the reasons show in the registry."""

import asyncio

import structlog

from common.reasons import Reason

log = structlog.get_logger()


class Gate:
    """Holds the reasons; `changed` is set at each change, for those who tell the world."""

    def __init__(self) -> None:
        self._reasons: set[Reason] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.changed = asyncio.Event()

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it is closed, sorted; empty if it is open."""
        return tuple(sorted(self._reasons))

    @property
    def is_open(self) -> bool:
        """Whether work may be taken."""
        return not self._reasons

    def set(self, reason: Reason, *, holds: bool) -> None:
        """Say that a reason holds, or no longer does."""
        if holds == (reason in self._reasons):
            return
        (self._reasons.add if holds else self._reasons.discard)(reason)
        (self._open.set if self.is_open else self._open.clear)()
        log.info("gate", reasons=[one.value for one in self.reasons])
        self.changed.set()

    async def wait_open(self) -> None:
        """Wait until no reason holds."""
        await self._open.wait()
