"""Processes that tests start: on loopback, with a log, ended whatever happens."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=PROJECT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self, within_s: float) -> int:
        """Its exit status; fails with the end of its log when the limit passes."""
        try:
            return self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within_s} s:\n{self.tail()}") from None

    def stop(self, within_s: float = 10) -> int:
        """SIGTERM, then wait; SIGKILL at the limit."""
        if self.is_running:
            self._popen.terminate()
            try:
                return self._popen.wait(within_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._popen.wait()

    def kill(self) -> None:
        if self.is_running:
            self._popen.kill()
        self._popen.wait()

    def tail(self, characters: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-characters:]


def python(*args: str) -> list[str]:
    """This interpreter with arguments."""
    return [sys.executable, *args]


def until(condition: Callable[[], object], within_s: float, what: str | Callable[[], object]) -> float:
    """Poll until the condition is true, and say after how many seconds it was; past the limit fail with `what`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + within_s:
            raise AssertionError(f"not within {within_s} s: {what() if callable(what) else what}")
        time.sleep(0.02)
    return time.monotonic() - began
