"""One part of the stack as data, and one run of it as an operating system process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ghub.processes import logs

Probe = Callable[[], Awaitable[bool]]
"""Says whether a part can do its work now: False for every expected failure, and quickly."""

_LAUNCHER = Path(__file__).with_name("launch.py")
_DEATH_MODE = "prctl" if sys.platform == "linux" else "pipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a supervisor has to know about a child."""

    name: str
    argv: tuple[str, ...]
    """The program's absolute path and its arguments. No secrets: everybody on the machine can read them."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the supervisor's own environment."""
    address: str = ""
    """Where people find it, for display."""
    probe: Probe | None = None
    """Without one the part counts as healthy once it runs."""
    needs: tuple[str, ...] = ()
    """Parts that must be healthy before this one is first started."""
    stop_turn: int = 0
    """Parts of a lower turn end first; those of one turn end together."""
    stop_timeout_s: float = 1.0
    """How long it may take to end before it is killed."""
    fatal_exit_codes: frozenset[int] = frozenset()
    """Exit codes by which it says, before the stack is ready, that trying again is of no use."""


class Child:
    """A running process, in a session of its own so that the terminal's Ctrl-C does not reach it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path | None, log_start_bytes: int) -> None:
        self._process = process
        self._log = log
        self._log_start_bytes = log_start_bytes
        self._group_is_gone = False

    @classmethod
    async def start(cls, part: Part, log: Path | None) -> Self:
        """Start `part`, its standard output and error going to the end of `log`; without one, where ours go.

        Raises:
            OSError: the log cannot be written, or the system refuses another process.
        """
        with nullcontext() if log is None else log.open("ab") as output:
            start_bytes = 0 if output is None else output.tell()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LAUNCHER), _DEATH_MODE, str(os.getpid())),
                *part.argv,
                stdin=subprocess.DEVNULL if _DEATH_MODE == "prctl" else subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **part.env},
                start_new_session=True,
            )
            return cls(process, log, start_bytes)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its session and process group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its end has not been seen yet."""
        return self._process.returncode is None

    async def ended(self) -> int:
        """Wait for its end, then kill what it may have left in its group.

        Returns:
            The exit code, or minus the number of the signal that killed it.
        """
        code = await self._process.wait()
        self.kill()
        self._group_is_gone = True
        return code

    def terminate(self) -> None:
        """Ask it to end; whatever it started is its own to end."""
        if self.is_running:
            self._process.terminate()

    def kill(self) -> None:
        """Kill it and all of its group at once."""
        if self._group_is_gone:  # the number may be another's by now
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
            os.killpg(self.pid, signal.SIGKILL)

    def last_lines(self, count: int = 3) -> list[str]:
        """Return the last lines of this very run's log."""
        return [] if self._log is None else logs.tail(self._log, self._log_start_bytes, count)


def describe_exit(code: int) -> str:
    """Put an exit code (negative: a signal's number) into words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
