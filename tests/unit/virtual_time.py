"""An event loop whose clock jumps to the next timer instead of waiting: five minutes of silence cost a test nothing."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: where nothing is ready, time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everyone waits and no timer runs: this would hang for ever")
            self.now += max(0.0, timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def pass_time(self, seconds: float) -> None:
        self._clock.now += seconds


def in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; `asyncio.get_running_loop().time()` begins at 0 and costs nothing."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(work)


def now_s() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()


def pass_time(seconds: float) -> None:
    """Let time pass in which nothing of this process runs, as when its machine sleeps."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _VirtualLoop)
    loop.pass_time(seconds)
