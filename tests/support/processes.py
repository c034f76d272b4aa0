"""Processes that tests start: on loopback, with a log, ended whatever happens."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.nursery import Child, can_start

PROJECT = Path(__file__).resolve().parents[2]


LEAST_GAP_S, MOST_GAP_S = 0.01, 0.1
"""Between two looks."""


class Process:
    """A child process whose output goes to a file.

    What a nursery knows comes out of it, unless `afresh`: then what it is stands in its command line, too.
    """

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, *, afresh: bool = False
    ) -> None:
        self.name = name
        self.log = log
        self._popen: subprocess.Popen[bytes] | Child
        whole_env = {**os.environ, **(env or {})}
        log.touch()  # whoever looks into it finds it, however soon
        if not afresh and can_start(argv, env or {}):
            self._popen = Child(argv, whole_env, PROJECT, out=log)
            return
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=PROJECT,
                env=whole_env,
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


def run_to_end(
    argv: Sequence[str], env: Mapping[str, str], *, said: str = "", within_s: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run a command that a nursery may know, in just this environment, with this on its standard input.

    Raises:
        subprocess.TimeoutExpired: it did not end, and was killed.
    """
    if not can_start(argv, {name: value for name, value in env.items() if os.environ.get(name) != value}):
        return subprocess.run(
            argv, cwd=PROJECT, env=env, input=said, capture_output=True, text=True, timeout=within_s, check=False
        )
    with tempfile.TemporaryDirectory() as folder:
        heard, out, errors = (Path(folder) / name for name in ("input", "out", "errors"))
        heard.write_text(said)
        child = Child(argv, env, PROJECT, input=heard, out=out, errors=errors)
        try:
            status = child.wait(within_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise
        return subprocess.CompletedProcess(argv, status, out.read_text(), errors.read_text())


def until(condition: Callable[[], object], within_s: float, what: str | Callable[[], object]) -> float:
    """Poll until the condition is true, and say after how many seconds it was; past the limit fail with `what`.

    What takes long is looked at more rarely: looks at a grid cost it and the test a few milliseconds each.
    """
    began = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - began
        if waited_s > within_s:
            raise AssertionError(f"not within {within_s} s: {what() if callable(what) else what}")
        time.sleep(min(MOST_GAP_S, max(LEAST_GAP_S, waited_s / 10)))
    return time.monotonic() - began
