"""Keeps one part alive: starts it, watches it, starts it again when it dies, ends it when told to.

A keeper alone starts and awaits the processes of its part. Its `run` is never cancelled: it looks at `stopping`,
so that no process can be lost between being started and being known.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common.tasks import backoff_s, wait_or_stop
from ghub.errors import StackFailed
from ghub.processes.child import Child, Part, describe_exit
from ghub.processes.events import Died, Event, Healthy, Killed, Started


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient a supervisor is."""

    backoff_first_s: float = 1.0
    backoff_most_s: float = 30.0
    """Pauses double from the first to the most, each shortened by up to half at random: 0.5 to 30 s."""
    stable_after_s: float = 60.0
    """Healthy for this long, a part's earlier deaths are forgotten."""
    deaths_before_ready: int = 3
    """So many deaths of one part before the stack was ready for the first time end the stack."""
    probe_gap_s: float = 0.1
    log_limit_bytes: int = 16 * 1024 * 1024


@dataclass(slots=True)
class Phase:
    """What all keepers of a stack look at."""

    stopping: asyncio.Event
    hurrying: asyncio.Event
    """Set: whatever has to end is killed at once."""
    was_ready: bool = False
    """Once true, a part is restarted for ever."""


class Keeper:
    """The life of one part."""

    def __init__(
        self, part: Part, log: Path | None, phase: Phase, report: Callable[[Event], None], limits: Limits
    ) -> None:
        self.part = part
        self.healthy = asyncio.Event()
        self._log = log
        self._phase = phase
        self._report = report
        self._limits = limits
        self._starting = asyncio.Lock()
        self._child: Child | None = None

    def last_lines(self) -> list[str]:
        """Return the last log lines of the running, or else the last, process."""
        return self._child.last_lines() if self._child else []

    async def run(self) -> None:
        """Keep the part alive until the stack stops.

        Raises:
            StackFailed: it never gets up, and there is no use in trying again.
            OSError: its log cannot be written, or the system refuses another process.
        """
        deaths, pauses_s = 0, self._pauses_s()
        while True:
            child = await self._start()
            if child is None:
                return
            code, healthy_for_s = await self._attend(child)
            if self._phase.stopping.is_set():
                return
            if healthy_for_s >= self._limits.stable_after_s:
                deaths, pauses_s = 0, self._pauses_s()
            deaths += 1
            self._give_up_if_hopeless(child, code, deaths)
            pause_s = next(pauses_s)
            self._report(Died(self.part, describe_exit(code), child.last_lines(), pause_s))
            await wait_or_stop(self._phase.stopping, pause_s)

    async def end(self) -> None:
        """End the running process, if there is one: ask, wait, kill. `stopping` must be set."""
        async with self._starting:  # a process that is just being started is known after this
            child = self._child
        if child is None or not child.is_running:
            return
        child.terminate()
        ended = asyncio.create_task(child.ended())
        hurrying = asyncio.create_task(self._phase.hurrying.wait())
        limit_s = self.part.stop_timeout_s
        await asyncio.wait({ended, hurrying}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not ended.done():
            child.kill()
            self._report(Killed(self.part))
        await ended

    async def _start(self) -> Child | None:
        async with self._starting:
            if self._phase.stopping.is_set():
                return None
            self._child = await Child.start(self.part, self._log)
        self._report(Started(self.part, self._child.pid))
        return self._child

    async def _attend(self, child: Child) -> tuple[int, float]:
        """Stay with a process until its end; return its exit code and how long it was healthy, in seconds."""
        clock = asyncio.get_running_loop().time
        ending = asyncio.create_task(child.ended())
        getting_up = asyncio.create_task(self._get_up())
        await asyncio.wait({ending, getting_up}, return_when=asyncio.FIRST_COMPLETED)
        healthy_at = clock()
        if getting_up.done():
            getting_up.result()  # a probe that raises is a bug, and ends the stack
            self.healthy.set()
            self._report(Healthy(self.part))
        code = await ending
        self.healthy.clear()
        getting_up.cancel()
        with suppress(asyncio.CancelledError):
            await getting_up
        return code, clock() - healthy_at  # next to nothing where it died before it was healthy

    async def _get_up(self) -> None:
        probe = self.part.probe
        while probe is not None and not await probe():  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(self._limits.probe_gap_s)

    def _give_up_if_hopeless(self, child: Child, code: int, deaths: int) -> None:
        is_hopeless = code in self.part.fatal_exit_codes or deaths >= self._limits.deaths_before_ready
        if self._phase.was_ready or not is_hopeless:
            return
        why, lines = describe_exit(code), child.last_lines()
        self._report(Died(self.part, why, lines))
        said = f": {lines[-1]}" if lines else ""
        raise StackFailed(f"{self.part.name} does not start ({why}){said}")

    def _pauses_s(self) -> Iterator[float]:
        return backoff_s(self._limits.backoff_first_s, self._limits.backoff_most_s)
