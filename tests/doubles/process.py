"""The test engine as a child process, with its control surface as methods."""

import asyncio
import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.doubles.models import Model
from tests.support.nursery import Child
from tests.support.processes import PROJECT, python

_POLL_GAP_S = 0.005


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
        self._process: Child | None = None

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
        command = python("-m", "tests.doubles.serve", "--port", str(self._port), *self._arguments)
        with tempfile.TemporaryDirectory() as folder:
            said, errors = Path(folder) / "said", Path(folder) / "errors"
            self._process = Child(command, os.environ, PROJECT, out=said, errors=errors)
            line = self._first_line(said)
            if not line.startswith("listening "):
                self.kill()
                raise EngineProcessError(f"engine did not start, said {line!r}: {errors.read_text(errors='replace')}")
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
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the process with SIGKILL; no error if it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait_exit(self, within_s: float = 5.0) -> int:
        """Wait until the process has ended by itself, return its status; raises subprocess.TimeoutExpired."""
        status = self._running().wait(within_s)
        self._process = None
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

    def _running(self) -> Child:
        if self._process is None:
            raise EngineProcessError("engine is not running")
        return self._process

    def _first_line(self, said: Path) -> str:
        """Wait for the first line of its output; what there is of it when the time is up or the process ends."""
        process, deadline = self._running(), time.monotonic() + self._start_limit_s
        line = ""
        while not line.endswith("\n") and time.monotonic() < deadline:
            has_ended = process.poll() is not None
            line = said.read_text() if said.exists() else ""
            if has_ended:
                break
            time.sleep(_POLL_GAP_S)
        return line.strip()

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
