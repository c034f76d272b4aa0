"""The test engine as a child process, with its control surface as methods."""

import asyncio
import http.client
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.doubles.models import Model

_ROOT = Path(__file__).resolve().parents[2]
_POLL_GAP_S = 0.01


class EngineProcessError(RuntimeError):
    """The engine process did not start, or refused an order; says what it wrote to stderr."""


class EngineProcess:
    """One test engine on a loopback port, started and ended with a `with` block.

    After `kill`, `stop` or an `exit_after` fault, `start` brings it back at the same address, with empty
    books and no faults.
    """

    def __init__(
        self,
        *,
        kind: str = "openai",
        models: Sequence[str | Model] = ("tiny:1b",),
        slots: int | None = None,
        api_key: str | None = None,
        version: str = "",
        lacks: Sequence[str] = (),
        port: int = 0,
        start_limit_s: float = 10.0,
    ) -> None:
        self.kind = kind
        self._arguments = ["--until-stdin-closes", "--kind", kind, "--engine-version", version]
        for model in models:
            self._arguments += ["--model", model.word() if isinstance(model, Model) else model]
        for path in lacks:
            self._arguments += ["--lacks", path]
        if slots is not None:
            self._arguments += ["--slots", str(slots)]
        if api_key is not None:
            self._arguments.append(f"--api-key={api_key}")  # a random key may begin with `-`
        self._start_limit_s = start_limit_s
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base address, without a path; it stays the same when the process is gone."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The running process; raises EngineProcessError if there is none."""
        return self._running().pid

    @property
    def fingerprint(self) -> str:
        """What the answers of the running process are marked with."""
        return f"fp_double_{self.pid}"

    def start(self) -> None:
        """Start the process and wait until it listens; raises EngineProcessError past the time limit."""
        if self._process is not None:
            self.kill()
        command = [sys.executable, "-m", "tests.doubles.serve", "--port", str(self._port), *self._arguments]
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
            line = self._first_line()
            if not line.startswith("listening "):
                self.kill()
                errors.seek(0)
                complaint = errors.read().decode(errors="replace")
                raise EngineProcessError(f"engine did not start, said {line!r}: {complaint}")
        self._port = int(line.rpartition(":")[2])

    def stop(self, within_s: float = 5.0) -> None:
        """End the process with SIGTERM, or SIGKILL past the time limit; no error if it is gone."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._forget()

    def kill(self) -> None:
        """End the process with SIGKILL; no error if it is gone."""
        if self._process is not None:
            self._process.kill()
            self._forget()

    def wait_exit(self, within_s: float = 5.0) -> int:
        """Wait until the process has ended by itself, return its status; raises subprocess.TimeoutExpired."""
        status = self._running().wait(within_s)
        self._forget()
        return status

    def state(self) -> dict[str, Any]:
        """Return the books: open, running, started, finished, cancelled, failed, max_open, requests."""
        state: dict[str, Any] = self._call("GET", "/control/state")
        return state

    def configure(self, **faults: object) -> None:
        """Set the faults of all requests from now on (see `Faults`), in place of those set before.

        Without arguments the engine behaves well again.
        """
        self._call("POST", "/control/faults", faults)

    def reset(self) -> None:
        """Zero the counters and forget the requests; the faults stay."""
        self._call("POST", "/control/reset")

    async def wait_open(self, n: int, within_s: float = 2.0) -> None:
        """Wait until exactly n generations are open, those in line included; AssertionError at the limit."""
        deadline = time.monotonic() + within_s
        while (state := await asyncio.to_thread(self.state))["open"] != n:
            if time.monotonic() > deadline:
                seen = state["open"]
                raise AssertionError(f"{seen} generations open after {within_s} s, expected {n}: {state}")
            await asyncio.sleep(_POLL_GAP_S)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EngineProcessError("engine is not running")
        return self._process

    def _first_line(self) -> str:
        """Read the first line of stdout, or what there is of it when the time is up or the process ends."""
        stdout = self._running().stdout
        assert stdout is not None
        deadline = time.monotonic() + self._start_limit_s
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            if not (piece := os.read(stdout.fileno(), 4096)):
                break
            line += piece
        return line.decode().strip()

    def _forget(self) -> None:
        """Reap the ended process and close its pipes."""
        process = self._running()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    def _call(self, method: str, path: str, body: object = None) -> Any:
        """Call the control surface and block for the answer, about a millisecond."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise EngineProcessError(f"{method} {path}: {response.status} {answer.decode(errors='replace')}")
        return json.loads(answer)
