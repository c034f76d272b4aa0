"""Keeps a set of child processes alive, and ends them in order.

    start    each part once all that it needs are healthy
    keep     a part that ends is reported with the reason and started again after a growing, jittered pause
    give up  a part that ends too often before `mark_ready` takes the stack down: it never worked
    stop     turn by turn; what has not ended within its limit is killed with its whole group

Every part has one keeper task. The first to break, for whatever reason, is what `until` raises: a part that
nobody watches must not be mistaken for one that works.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from common.tasks import wait_or_stop
from ghub.errors import StackFailed
from ghub.processes import logs
from ghub.processes.child import Part
from ghub.processes.events import Event
from ghub.processes.keeper import Keeper, Limits, Phase

_LOG_CHECK_S = 60.0


class Supervisor:
    """Runs parts until told to stop. For one use: `start`, then `stop`."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        log_dir: Path | None,
        report: Callable[[Event], None],
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._phase = Phase(asyncio.Event(), asyncio.Event())
        self._logs = {} if log_dir is None else {part.name: log_dir / f"{part.name}.log" for part in parts}
        """Without a folder parts write where this process does."""
        self._keepers = {
            part.name: Keeper(part, self._logs.get(part.name), self._phase, report, self._limits) for part in parts
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[StackFailed] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Begin to start and keep all parts; the logs of an earlier run are put aside."""
        for name, keeper in self._keepers.items():
            self._watch(asyncio.create_task(self._keep(keeper), name=name))
        self._watch(asyncio.create_task(self._cap_logs(), name="logs"))

    def mark_ready(self) -> None:
        """Declare that the stack has worked once: from now on parts are restarted for ever."""
        self._phase.was_ready = True

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for the event.

        Raises:
            StackFailed: a part was given up before.
        """
        stopping = asyncio.create_task(stop.wait())
        try:
            either: set[asyncio.Future[Any]] = {stopping, self._failure}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                raise self._failure.result()
        finally:
            stopping.cancel()

    async def healthy(self) -> None:
        """Wait until all parts are healthy at once."""
        while late := self.unhealthy():
            await self._keepers[late[0].name].healthy.wait()

    def unhealthy(self) -> list[Part]:
        """Parts that are not healthy now, in order of declaration."""
        return [keeper.part for keeper in self._keepers.values() if not keeper.healthy.is_set()]

    def last_lines(self, name: str) -> list[str]:
        """Return the last log lines of the running (or else the last) process of a part."""
        return self._keepers[name].last_lines()

    def hurry(self) -> None:
        """Make a `stop` that is under way, or one to come, kill at once."""
        self._phase.hurrying.set()

    async def stop(self) -> None:
        """End all parts, turn by turn, each within its limit. Nothing is left running."""
        self._phase.stopping.set()
        in_order = sorted(self._keepers.values(), key=lambda keeper: keeper.part.stop_turn)
        for _, turn in groupby(in_order, key=lambda keeper: keeper.part.stop_turn):
            await asyncio.gather(*(keeper.end() for keeper in turn))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, keeper: Keeper) -> None:
        if (log := self._logs.get(keeper.part.name)) is not None:
            logs.rotate(log)
        for need in keeper.part.needs:
            wanted = asyncio.create_task(self._keepers[need].healthy.wait())
            stopping = asyncio.create_task(self._phase.stopping.wait())
            await asyncio.wait({wanted, stopping}, return_when=asyncio.FIRST_COMPLETED)
            wanted.cancel()
            stopping.cancel()
        await keeper.run()

    def _watch(self, task: asyncio.Task[None]) -> None:
        self._tasks.append(task)
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            failure = error if isinstance(error, StackFailed) else StackFailed(f"{task.get_name()}: {error}")
            self._failure.set_result(failure)

    async def _cap_logs(self) -> None:
        while not await wait_or_stop(self._phase.stopping, _LOG_CHECK_S):
            for log in self._logs.values():
                with suppress(OSError):  # a full disk must not end the stack
                    logs.cap(log, self._limits.log_limit_bytes)
