"""What every system of the comparison is made of: a process, an address, and the moment from which it answers."""

import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.compare.wire import question
from tests.support.processes import Process, until

START_LIMIT_S = 180
STOP_LIMIT_S = 20


class NotHere(Exception):
    """This system cannot be had or does not start; says why."""


@dataclass
class System:
    """One that runs."""

    name: str
    port: int
    pids: Sequence[int]
    headers: Mapping[str, str] = field(default_factory=dict)
    """That it wants."""


@contextmanager
def process(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """A program, until the block ends."""
    one = Process(log.stem, argv, log, env, afresh=True)
    try:
        yield one
    finally:
        one.stop(STOP_LIMIT_S)


def wait_for(condition: Callable[[], bool], one: Process) -> None:
    """Wait until a process has come so far. NotHere if it does not."""
    try:
        until(condition, START_LIMIT_S, one.tail)
    except AssertionError as exc:
        raise NotHere(f"it does not start: {exc}") from None


def ready(system: System, one: Process) -> System:
    """The system, once it answers a chat completion."""
    body = question(events=1, pace_ms=0, stream=False, nth=0)
    headers = {"content-type": "application/json", **system.headers}
    url = f"http://127.0.0.1:{system.port}/v1/chat/completions"
    wait_for(lambda: b" 0:" in fetch(url, headers, body), one)
    return system


def fetch(url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    """What is answered with 200; nothing while there is no such answer."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read()) if answer.status == 200 else b""
    except OSError:
        return b""
