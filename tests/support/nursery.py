"""Children that come ready: hubs, providers and fronts forked off a process that has done their imports.

To start Python and import one of them takes a second of a core; a fork of one that has takes a few
milliseconds. What runs in the child is the same: `python -m hub`, from its first line, with an environment of its own.
`python -m tests.support.nursery` is that process. It is told what to start, one JSON line after another, by whoever
started it, and ends with them.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODULES = ("hub", "provider", "ghub.connect")
"""What it can start."""
_IMPORTS = {
    "hub": ("hub.server", "pydantic.v1"),
    "provider": ("provider.agent", "provider.config.reading"),
    "ghub.connect": ("ghub.connect.server",),
}
"""`pydantic.v1` is what FastAPI imports for its first route."""
_READ_BEFORE_MAIN = ("LD_", "DYLD_", "PYTHON")
"""Variables that only the start of a process looks at, by how they begin."""
_POLL_GAP_S = 0.01


def can_start(argv: list[str], env: Mapping[str, str]) -> bool:
    """Whether a command is one that a nursery can start, and to the same effect."""
    is_known = len(argv) == 3 and argv[:2] == [sys.executable, "-m"] and argv[2] in MODULES
    return is_known and not any(name.startswith(_READ_BEFORE_MAIN) for name in env)


class Nursery:
    """The process, started when first needed; for one process that may have many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, module: str, env: Mapping[str, str], log: Path, folder: Path) -> int:
        """Start a module; the child's pid."""
        return int(self._ask(module=module, env=dict(env), log=str(log), folder=str(folder)))

    def poll(self, pid: int) -> int | None:
        """A child's exit status, as `subprocess.Popen.returncode`, or None while it runs."""
        status = self._ask(poll=pid)
        return None if status is None else int(status)

    def _ask(self, **order: Any) -> Any:
        with self._lock:
            if self._process is None:
                self._open()
            assert self._process is not None
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def _open(self) -> None:
        folder = Path(__file__).resolve().parents[2]
        argv = [sys.executable, "-m", "tests.support.nursery"]
        self._process = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        atexit.register(self._close, self._process)

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        with process:  # its standard input closes, and so it ends
            pass


class Child:
    """A process that a nursery started, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, nursery: Nursery, module: str, env: Mapping[str, str], log: Path, folder: Path) -> None:
        self._nursery = nursery
        self.returncode: int | None = None
        self.pid = nursery.start(module, env, log, folder)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.poll(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; raises subprocess.TimeoutExpired."""
        limit = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if limit is not None and time.monotonic() > limit:
                raise subprocess.TimeoutExpired("a child of the nursery", timeout or 0)
            time.sleep(_POLL_GAP_S)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it was asked for, its pid is nobody else's
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve() -> str | None:
    """Fork as told until told no more; in a child, the module it is to run."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an import prints is no answer
    for order in orders:
        told = json.loads(order)
        if pid := told.get("poll"):
            ended, status = os.waitpid(pid, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif (answer := os.fork()) == 0:
            orders.close()
            answers.close()
            _become(told)
            return str(told["module"])
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    return None


def _become(told: Mapping[str, Any]) -> None:
    """Take on what a process of its own would have begun with."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, source in enumerate((nothing, log, log)):
        os.dup2(source, number)
    os.close(nothing)
    os.close(log)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["env"])
    time.tzset()
    sys.argv = [told["module"]]


def _main() -> None:
    for module in MODULES:
        for name in _IMPORTS[module]:
            __import__(name)
    gc.freeze()  # what was imported stays shared
    if (module := _serve()) is not None:
        gc.unfreeze()
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
