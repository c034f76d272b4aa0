"""How a process of the grid begins and ends: logs, event loop, exit status, and one line for what went wrong."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import uvloop

from common.errors import GHubError, SettingsError
from common.logs import LogFormat, asked_for, configure_logs, say_failed
from common.settings import ProcessSettings, read_settings

Settings = TypeVar("Settings", bound=ProcessSettings)
Setup = TypeVar("Setup")

FAILED = 1
"""Exit status: it ran and broke."""
GC_THRESHOLDS = (10_000, 20, 50)
"""Reference counts free nearly all that requests leave: cycles are looked for less often than by default (700)."""
REFUSED = 2
"""Exit status: it cannot work as it is set up."""


def run_process(name: str, settings: ProcessSettings, work: Coroutine[Any, Any, None]) -> int:
    """Run a process' work to its end and return its exit status; what went wrong is one line on stderr."""
    configure_logs(settings.log_format, settings.log_level)
    gc.collect()
    gc.freeze()  # what was imported stays, and need not be looked through again and again
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except SettingsError as exc:
        return _told(name, exc, REFUSED, settings.log_format)
    except (GHubError, RuntimeError) as exc:  # a broker that says no, a name that is taken, a root task that died
        return _told(name, exc, FAILED, settings.log_format)
    return 0


def main(name: str, kind: type[Settings], run: Callable[[Settings], int]) -> int:
    """Read a process' settings from its environment and run it; its exit status."""
    return begin(name, partial(read_settings, kind), run)


def begin(name: str, read: Callable[[], Setup], run: Callable[[Setup], int]) -> int:
    """Run a process with what its reader gives, which may raise SettingsError; its exit status."""
    log_format = asked_for()
    if log_format is LogFormat.JSON:
        configure_logs(log_format, "INFO")  # until the settings are read
    try:
        setup = read()
    except SettingsError as exc:
        return _told(name, exc, REFUSED, log_format)
    return run(setup)


def _told(name: str, error: Exception, status: int, log_format: LogFormat) -> int:
    say_failed(f"ghub {name}", str(error), log_format)
    return status
