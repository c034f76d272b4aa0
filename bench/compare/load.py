"""The load generator: asks, reads, and says of every event whether it came, once, in order, and when.

Run: `python -m bench.compare.load`, with a `Task` as JSON on standard input; prints its `Figures` as JSON.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, cast

import httptools
import uvloop

from bench.compare.wire import TEXT, question

_ERROR = re.compile(rb'"error": ?[{"]')
_DONE = b"data: [DONE]"


@dataclass(frozen=True)
class Task:
    """What to ask for.

    Attributes:
        port: of the system, on loopback.
        path: of its chat completions.
        headers: that it wants.
        streams: connections at once, each with one request after another.
        events: of each answer.
        pace_ms: between two events; 0: as fast as they come.
        is_stream: whether answers are streamed.
        for_s: no request begins later than this; 0: each connection asks once.
        within_s: whatever is not done by then is counted as an error.
    """

    port: int
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    streams: int = 1
    events: int = 1
    pace_ms: float = 0
    is_stream: bool = True
    for_s: float = 0
    within_s: float = 60


@dataclass
class Figures:
    """What came of it. Times in ms; `lost`, `repeated` and `disordered` count events of answers that ended well."""

    requests: int = 0
    events: int = 0
    seconds: float = 0.0
    errors: int = 0
    lost: int = 0
    repeated: int = 0
    disordered: int = 0
    error: str = ""
    """The first one."""
    first_ms: float = 0.0
    """From request to first event (or to a whole answer), median."""
    first_p99_ms: float = 0.0
    inbound_ms: float = 0.0
    """From request to the engine's first event being made, median: what stands before the engine."""
    gap_p50_ms: float = 0.0
    gap_p99_ms: float = 0.0
    """Between two events of a stream, over all streams."""
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    """From the engine's making of an event to its arrival."""


def load(task: Task) -> Figures:
    """Run a load generator in a process of its own; if that fails, it is the one error."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare.load"],
        input=json.dumps(asdict(task)),
        capture_output=True,
        text=True,
        timeout=task.within_s + 60,
        check=False,
    )
    return Figures(**json.loads(done.stdout)) if not done.returncode else Figures(errors=1, error=done.stderr[-500:])


class Asking(asyncio.Protocol):
    """One connection: asks, reads the answer, asks again while there is time."""

    def __init__(self, run: "Run", nth: int) -> None:
        self._run = run
        self._nth = nth
        self._asked = 0
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser
        self._pieces: list[bytes] = []
        self._at_ns: list[int] = []
        self._began_ns = 0
        self.done = asyncio.get_running_loop().create_future()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._run.fail(f"connection lost: {exc}")
            self.done.set_result(None)
        self.closed.set_result(None)

    def close(self) -> None:
        """Read no more."""
        self.done.cancel()
        if self._transport is not None:
            self._transport.abort()

    def ask(self) -> None:
        """Send the next request."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces, self._at_ns = [], []
        body = self._run.question(self._nth, self._asked)
        self._asked += 1
        self._began_ns = time.monotonic_ns()
        self._transport.write(self._run.head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._end(f"unreadable answer: {exc}")

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._at_ns.append(time.monotonic_ns())

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        error = "" if status == 200 else f"status {status}: {b''.join(self._pieces)[:200]!r}"
        error = error or self._run.take(self._pieces, self._at_ns, self._began_ns)
        self._end(error)

    def _end(self, error: str) -> None:
        if error:
            self._run.fail(error)
        elif self._run.has_time and self._parser.should_keep_alive():
            self.ask()
            return
        elif self._run.has_time:
            self._run.fail("the system closed the connection after an answer")
        if not self.done.done():
            self.done.set_result(None)


class Run:
    """One task and what came of it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.figures = Figures()
        more = "".join(f"{name}: {value}\r\n" for name, value in task.headers.items())
        head = f"POST {task.path} HTTP/1.1\r\nhost: 127.0.0.1:{task.port}\r\ncontent-type: application/json\r\n{more}"
        self.head = head.replace("%", "%%").encode() + b"content-length: %d\r\n\r\n"
        self._until_ns = 0
        self._firsts_ns: list[int] = []
        self._inbound_ns: list[int] = []
        self._gaps_ns: list[int] = []
        self._latencies_ns: list[int] = []

    @property
    def has_time(self) -> bool:
        """Whether another request may begin."""
        return time.monotonic_ns() < self._until_ns

    def question(self, nth: int, asked: int) -> bytes:
        """The body of a connection's next request."""
        task = self._task
        number = nth + asked * task.streams
        return question(events=task.events, pace_ms=task.pace_ms, stream=task.is_stream, nth=number)

    def fail(self, error: str) -> None:
        """A request came to nothing."""
        self.figures.errors += 1
        self.figures.error = self.figures.error or error

    def take(self, pieces: list[bytes], at_ns: list[int], began_ns: int) -> str:
        """Look at an answer that has ended; what is wrong with it as a whole."""
        seen: list[int] = []
        rest, before_ns = b"", 0
        for piece, at in zip(pieces, at_ns, strict=True):
            text = rest + piece if rest else piece
            end = 0
            for one in TEXT.finditer(text):
                made_ns = int(one[2], 16)
                if not seen:
                    self._firsts_ns.append(at - began_ns)
                    self._inbound_ns.append(made_ns - began_ns)
                else:
                    self._gaps_ns.append(at - before_ns)
                before_ns = at
                seen.append(int(one[1]))
                self._latencies_ns.append(at - made_ns)
                end = one.end()
            rest = text[end:]
            if len(rest) > 400 and (cut := rest.rfind(b"\n\n")) > 0:
                rest = rest[cut:]
        whole = b"".join(pieces)
        if _ERROR.search(whole):
            return f"error in the answer: {whole[-300:]!r}"
        if self._task.is_stream and _DONE not in whole[-400:]:
            return "the stream ended without [DONE]"
        self._count(seen)
        return ""

    def _count(self, seen: list[int]) -> None:
        figures, events = self.figures, self._task.events if self._task.is_stream else 1
        figures.requests += 1
        figures.events += len(seen)
        kinds = set(seen)
        figures.lost += events - len(kinds & set(range(events)))
        figures.repeated += len(seen) - len(kinds)
        figures.disordered += sum(one > other for one, other in pairwise(seen))

    async def go(self) -> Figures:
        """Ask and read until all is done or the time is up."""
        loop = asyncio.get_running_loop()
        made = [
            (await loop.create_connection(lambda nth=nth: Asking(self, nth), "127.0.0.1", self._task.port))[1]  # type: ignore[misc]
            for nth in range(self._task.streams)
        ]
        began_ns = time.monotonic_ns()
        self._until_ns = began_ns + int(self._task.for_s * 1e9)
        for one in made:
            one.ask()
        _, late = await asyncio.wait([one.done for one in made], timeout=self._task.within_s)
        self.figures.seconds = (time.monotonic_ns() - began_ns) / 1e9
        for _ in late:
            self.fail(f"not done within {self._task.within_s:g} s")
        for one in made:
            one.close()
        await asyncio.wait([one.closed for one in made], timeout=1)
        self._sum_up()
        return self.figures

    def _sum_up(self) -> None:
        figures = self.figures
        figures.first_ms, figures.first_p99_ms = _middle_and_end(self._firsts_ns)
        figures.inbound_ms, _ = _middle_and_end(self._inbound_ns)
        figures.gap_p50_ms, figures.gap_p99_ms = _middle_and_end(self._gaps_ns)
        figures.latency_p50_ms, figures.latency_p99_ms = _middle_and_end(self._latencies_ns)


def _middle_and_end(times_ns: list[int]) -> tuple[float, float]:
    """Median and 99th percentile, ms."""
    if not times_ns:
        return 0.0, 0.0
    times_ns.sort()
    return statistics.median(times_ns) / 1e6, times_ns[min(len(times_ns) - 1, int(len(times_ns) * 0.99))] / 1e6


def main() -> None:
    """Do what standard input says."""
    given: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(asdict(uvloop.run(Run(Task(**given)).go()))))


if __name__ == "__main__":
    main()
