"""Children that come ready: parts of a grid and commands, forked off a process that has done their imports.

To start Python and import one of them takes half a second of a core or a whole one; a fork of one that has takes a few
milliseconds. What runs in the child is the same: `python -m hub`, from its first line, with an environment of its own.
`python -m tests.support.nursery SOCKET` is that process. It is told what to start, one JSON line after another, by
whoever connects (all processes that run tests share one), and ends with whoever started it.
"""

import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_IMPORTS = {
    "ghub": (
        "ghub.admin.grid",
        "ghub.admin.keys",
        "ghub.admin.nodes",
        "ghub.admin.requests",
        "ghub.admin.tokens",
        "ghub.admin.usage",
        "ghub.admin.why",
        "ghub.chat.command",
        "ghub.checking.run",
        "ghub.cli",
        "ghub.doctor.command",
        "ghub.roles.provider",
        "httpcore2",
    ),
    "ghub.connect": ("ghub.connect.server",),
    "hub": ("hub.server", "pydantic.v1"),
    "provider": ("provider.agent", "provider.config.reading", "httpcore2", "pydantic.v1"),
    "tests.doubles.serve": (
        "aiohttp.web",
        "tests.doubles.llamacpp",
        "tests.doubles.lmstudio",
        "tests.doubles.ollama",
        "tests.doubles.vllm",
    ),
}
"""What it can start, and what is imported before the first of them; `pydantic.v1` is what FastAPI imports for its first
route, `httpcore2` what httpx2 does for its first client."""
_READ_BEFORE_MAIN = ("LD_PRELOAD", "DYLD_", "PYTHON", "LANG", "LC_", "MALLOC_")
"""Variables that only the start of a process looks at, by how they begin."""
_LIBRARIES = "LD_LIBRARY_PATH"
"""Likewise, but so many children want the same that they have a nursery of their own."""
_POLL_GAP_S, _MOST_GAP_S = 0.005, 0.05
START_LIMIT_S = 30.0
SHARED = "TESTS_NURSERY"
"""The variable that tells the processes of a run of the one that they share."""


def can_start(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether a command is one that a nursery can start, and to the same effect."""
    is_known = [*argv[:2]] == [sys.executable, "-m"] and argv[2] in _IMPORTS
    return is_known and not any(name.startswith(_READ_BEFORE_MAIN) for name in env)


class Nursery:
    """The way to one, which is started when first needed; for one process that may have many threads.

    `libraries` are the folders in which its children look for libraries first.
    """

    def __init__(self, libraries: str = "") -> None:
        self._libraries = libraries
        self._lock = threading.Lock()
        self._answers: BinaryIO | None = None
        self._orders: socket.socket | None = None

    def start(self, argv: Sequence[str], env: Mapping[str, str], folder: Path, streams: Mapping[str, Path]) -> int:
        """Start a module, as `python -m` with its arguments; the child's pid.

        Its output goes to `streams["out"]`; its errors there, too, unless to `streams["errors"]`. It reads
        `streams["input"]`, else what ends when the nursery does.
        """
        files = {name: str(path) for name, path in streams.items()}
        return int(self._ask(argv=[*argv[2:]], env=dict(env), folder=str(folder), **files))

    def poll(self, pid: int) -> int | None:
        """A child's exit status, as `subprocess.Popen.returncode`, or None while it runs."""
        status = self._ask(poll=pid)
        return None if status is None else int(status)

    def _ask(self, **order: Any) -> Any:
        with self._lock:
            if self._orders is None or self._answers is None:
                shared = os.environ.get(SHARED) if not self._libraries else None
                self._orders = _connected(shared or open_nursery(self._libraries))
                self._answers = self._orders.makefile("rb")
            self._orders.sendall(json.dumps(order).encode() + b"\n")
            return json.loads(self._answers.readline())


def open_nursery(libraries: str = "") -> str:
    """Start one that ends with this process; the path of its socket."""
    path = str(Path(tempfile.mkdtemp(prefix="nursery-")) / "socket")
    env = {**os.environ, **({_LIBRARIES: libraries} if libraries else {})}
    argv = [sys.executable, "-m", "tests.support.nursery", path]
    folder = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(argv, cwd=folder, env=env, stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(_close, process, Path(path))
    return path


def _close(process: subprocess.Popen[bytes], path: Path) -> None:
    with process:  # its standard input closes, and so it ends
        pass
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def _connected(path: str) -> socket.socket:
    """A connection to one that may just be starting."""
    give_up_at = time.monotonic() + START_LIMIT_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            if time.monotonic() > give_up_at:
                raise
            time.sleep(_POLL_GAP_S)
        else:
            return connection


_NURSERIES: dict[str, Nursery] = {}


def nursery_for(env: Mapping[str, str]) -> Nursery:
    """The one of this process whose children look for libraries where these variables say."""
    libraries = env.get(_LIBRARIES, "")
    return _NURSERIES.setdefault(libraries, Nursery(libraries))


class Child:
    """A process that a nursery started, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: Path, **streams: Path) -> None:
        self._nursery = nursery_for(env)
        self.returncode: int | None = None
        self.pid = self._nursery.start(argv, env, folder, streams)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.poll(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; raises subprocess.TimeoutExpired."""
        began = time.monotonic()
        while (status := self.poll()) is None:
            waited_s = time.monotonic() - began
            if timeout is not None and waited_s > timeout:
                raise subprocess.TimeoutExpired("a child of the nursery", timeout)
            time.sleep(min(_MOST_GAP_S, max(_POLL_GAP_S, waited_s / 10)))
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it was asked for, its pid is nobody else's
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve(path: str) -> str | None:
    """Fork as told until whoever started this has ended; in a child, the module it is to run."""
    nothing, never_written = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as events:
        listener.bind(path)
        listener.listen()
        events.register(sys.stdin, selectors.EVENT_READ)
        events.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is listener:
                    connection = listener.accept()[0]
                    events.register(connection, selectors.EVENT_READ, connection.makefile("rb"))
                elif not (order := key.data.readline()):
                    events.unregister(key.fileobj)
                    key.fileobj.close()
                else:
                    told = json.loads(order)
                    answer = _carry_out(told)
                    if answer == 0 and "argv" in told:
                        for one in [*events.get_map().values()]:
                            if isinstance(one.fileobj, socket.socket):
                                one.fileobj.close()
                            if one.data is not None:
                                one.data.close()
                        os.close(never_written)
                        _become(told, nothing)
                        return str(told["argv"][0])
                    key.fileobj.sendall(json.dumps(answer).encode() + b"\n")


def _carry_out(told: Mapping[str, Any]) -> int | None:
    """Start what is told, or look whether it has ended; 0 in a child that was started."""
    if pid := told.get("poll"):
        ended, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
    _import_for(told["argv"][0])
    return os.fork()


def _import_for(module: str) -> None:
    if names := _IMPORTS.pop(module, ()):
        for name in names:
            __import__(name)
        gc.collect()
        gc.freeze()  # what was imported stays shared


def _become(told: Mapping[str, Any], nothing: int) -> None:
    """Take on what a process of its own would have begun with."""
    os.setsid()
    written = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    out = os.open(told["out"], written, 0o644)
    errors = os.open(told["errors"], written, 0o644) if "errors" in told else out
    heard = os.open(told["input"], os.O_RDONLY) if "input" in told else nothing
    for number, source in enumerate((heard, out, errors)):
        os.dup2(source, number)
    for source in {nothing, heard, out, errors}:
        os.close(source)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["env"])
    time.tzset()
    sys.argv = told["argv"]


_STATUS: list[int] = []
"""How the module that runs here has ended, once it has."""


def _leave() -> None:
    """Spare a child to take apart, page by page, what it shares: 40 ms, more than many do between begin and end."""
    if _STATUS:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_STATUS[0])


if __name__ == "__main__":
    atexit.register(_leave)  # first, and so called last
    if (module := _serve(sys.argv[1])) is not None:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            _STATUS.append(0)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                _STATUS.append(end.code or 0)
            raise
