"""Long-lived tasks that are named, held and watched, and waits that a stop can cut short."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

Result = TypeVar("Result")


def backoff_s(first_s: float, most_s: float) -> Iterator[float]:
    """Endless waits that double from `first_s` to `most_s`, each shortened by up to half at random."""
    step = first_s
    while True:
        yield step * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        step = min(step * 2, most_s)


async def keep_trying(
    work: Callable[[], Awaitable[Result]], error: type[Exception], *, first_s: float, most_s: float, limit_s: float
) -> Result:
    """Do it until it works, waiting longer each time; the error itself once `limit_s` have passed."""
    give_up_at = asyncio.get_running_loop().time() + limit_s
    waits = backoff_s(first_s, most_s)
    while True:
        try:
            return await work()
        except error:
            if asyncio.get_running_loop().time() > give_up_at:
                raise
        await asyncio.sleep(next(waits))


async def wait_or_stop(stop: asyncio.Event, timeout_s: float) -> bool:
    """Wait for the event at most so long; True if it was set."""
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True


CANCEL_AGAIN_S = 0.5


class Crew:
    """The root tasks of a process: none may end before the process does, and one that does is named."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task under a name."""
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for the stop event.

        Raises:
            RuntimeError: a task ended before, which none may; names it and its error.
        """
        waiter = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([*self._tasks.values(), waiter], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        for task in done - {waiter}:
            error = None if task.cancelled() else task.exception()
            raise RuntimeError(f"the task {task.get_name()!r} ended: {error!r}") from error

    async def beside(self, work: Coroutine[Any, Any, Result], stop: asyncio.Event) -> Result | None:
        """Do something that may take long, unless the stop event comes first: None then.

        Raises:
            RuntimeError: one of the crew ended meanwhile; names it and its error.
        """
        task, watch = asyncio.create_task(work), asyncio.create_task(self.until(stop))
        try:
            await asyncio.wait([task, watch], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await watch
                return None
            return await task
        finally:
            await _end({task, watch})

    async def wait(self, name: str, timeout_s: float) -> None:
        """Wait for a task that is to end by itself, at most so long."""
        if (task := self._tasks.get(name)) is not None:
            await asyncio.wait([task], timeout=timeout_s)

    async def stop(self, *names: str) -> None:
        """Cancel these tasks (all without names) and wait until they are gone."""
        await _end({task for name in names or list(self._tasks) if (task := self._tasks.pop(name, None))})


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are gone.

    A cancellation can get lost, so it is said again: before Python 3.12 `asyncio.wait_for` drops one that comes at the
    moment its work is done, and redis-py 8.1 sends every command through it.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # it was told when it happened, or is of no interest any more
