"""One `ghub up` as a process, as a user starts it, and what it printed."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.processes import PROJECT


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, left = psutil.wait_procs(processes, timeout=5)
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


class Up:
    """One `ghub up`, what it printed, and every process it ever started."""

    def __init__(self, data_dir: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GHUB_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ghub", "up", "--port", str(self.port), "--data-dir", str(data_dir), *options],
            cwd=PROJECT,
            env={
                **clean,
                "PYTHONPATH": str(PROJECT),
                "GHUB_UP_BROKER_PORT": str(free_port()),
                "GHUB_UP_ENGINE_PORT": str(free_port()),
                "GHUB_UP_PROVIDER_PORT": str(free_port()),
                "GHUB_UP_OLLAMA_URL": f"http://127.0.0.1:{free_port()}",
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.pids: dict[str, int] = {}

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def until(self, pattern: str) -> str:
        """Read what it prints up to a line that matches from its beginning."""
        for line in self._out:
            self.lines.append(line.rstrip("\n"))
            if started := re.match(r"(\S+) .* pid (\d+)$", line):
                self.pids[started[1]] = int(started[2])
            if re.match(pattern, line):
                return line
        pytest.fail(f"it ended before it printed {pattern!r}:\n" + "\n".join([*self.lines, self._errors()]))

    def ends(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it wrote to standard error."""
        with contextlib.suppress(ValueError):
            self.lines += self._out.read().splitlines()
        return self.process.wait(), self._errors()

    def processes(self) -> list[psutil.Process]:
        """All that runs below it now."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._out.close()
        if self.process.stderr:
            self.process.stderr.close()

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()
