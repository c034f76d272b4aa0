"""The signals on which a supervisor stops its parts."""

import asyncio
import signal
from collections.abc import Callable

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ECHO_S = 0.5
"""A wrapper such as `uv run` may pass on the Ctrl-C that the terminal sent to both: within this it is the same one."""


def on_signals(stop: asyncio.Event, hurry: Callable[[], None]) -> None:
    """Let the first signal stop the stack, and a second one kill it."""
    loop = asyncio.get_running_loop()
    first_at_s = 0.0

    def on_signal() -> None:
        nonlocal first_at_s
        if not stop.is_set():
            stop.set()
            first_at_s = loop.time()
        elif loop.time() - first_at_s > _ECHO_S:
            hurry()

    for number in _STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means what it says
            loop.add_signal_handler(number, on_signal)


def ignore_signals() -> None:
    """Let an impatient Ctrl-C not spoil the exit, now that there is nothing left to end."""
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
