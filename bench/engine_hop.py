"""Which HTTP client carries the hop from provider to engine: CPU and delay per small event.

Run: `uv run python -m bench.engine_hop` (about two minutes; add `--with httpx-aiohttp` after `uv run` for that row).

A server process writes small SSE events, each in a chunk of its own, as engines do. A process per client reads many
such streams at once on uvloop and counts its own CPU (user + system). Rounds are interleaved, so that whatever else the
machine does falls on all clients alike; medians and their ratios are printed. The ratios carry over to another machine,
the seconds don't.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import uvloop

from bench.ending import end_when_told

EVENT_PADDING = b"." * 120
MARK = b'"t":'
SAMPLE_EVERY = 8
RUN_LIMIT_S = 60
COMMAND = (sys.executable, "-m", "bench.engine_hop")


@dataclass(frozen=True)
class Load:
    """Streams read at once. A gap of 0 means as fast as the client reads."""

    name: str
    streams: int
    events: int
    gap_ms: float


LOADS = (
    Load("64 streams, 20 ms a token", 64, 150, 20),
    Load("200 streams, 20 ms a token", 200, 150, 20),
    Load("64 streams, unpaced", 64, 600, 0),
)


@dataclass
class Reader:
    """What every client does with the bytes: sample how old the newest event is."""

    received_bytes: int = 0
    ages_ms: list[float] = field(default_factory=list)
    _chunks: int = 0

    def take(self, chunk: bytes) -> None:
        self.received_bytes += len(chunk)
        self._chunks += 1
        if self._chunks % SAMPLE_EVERY:
            return
        begin = chunk.rfind(MARK) + len(MARK)
        sent_ns = chunk[begin : begin + 20].split(b",")[0]
        if begin >= len(MARK) and sent_ns.isdigit():
            self.ages_ms.append((time.monotonic_ns() - int(sent_ns)) / 1e6)


# The clients: read so many streams of one address at once.


async def read_with_httpx2(url: str, streams: int, reader: Reader) -> None:
    import httpx2  # noqa: PLC0415 - only one client is loaded in its process

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:

        async def read_one() -> None:
            async with client.stream("POST", url, content=b"{}") as response:
                async for chunk in response.aiter_raw():
                    reader.take(chunk)

        await asyncio.gather(*(read_one() for _ in range(streams)))


async def read_with_httpx_aiohttp(url: str, streams: int, reader: Reader) -> None:
    import aiohttp  # noqa: PLC0415
    import httpx  # noqa: PLC0415
    import httpx_aiohttp  # noqa: PLC0415

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))
    transport = httpx_aiohttp.AiohttpTransport(client=session)
    async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:

        async def read_one() -> None:
            async with client.stream("POST", url, content=b"{}") as response:
                async for chunk in response.aiter_raw():
                    reader.take(chunk)

        await asyncio.gather(*(read_one() for _ in range(streams)))


async def read_with_aiohttp(url: str, streams: int, reader: Reader) -> None:
    import aiohttp  # noqa: PLC0415

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=256 * 1024) as session:

        async def read_one() -> None:
            async with session.post(url, data=b"{}") as response:
                async for chunk in response.content.iter_any():
                    reader.take(chunk)

        await asyncio.gather(*(read_one() for _ in range(streams)))


class _Body(asyncio.Protocol):
    """A connection of our own: httptools parses, nothing stands between."""

    def __init__(self, take: Callable[[bytes], None], ended: "asyncio.Future[None]") -> None:
        import httptools  # noqa: PLC0415

        self._parser = httptools.HttpResponseParser(self)
        self._take = take
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._take(body)

    def on_message_complete(self) -> None:
        self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionError("closed before the end"))


async def read_with_httptools(url: str, streams: int, reader: Reader) -> None:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}" % parts.path.encode()

    async def read_one() -> None:
        ended: asyncio.Future[None] = loop.create_future()
        transport, _ = await loop.create_connection(lambda: _Body(reader.take, ended), host, port)
        transport.write(head)
        await ended
        transport.close()

    await asyncio.gather(*(read_one() for _ in range(streams)))


async def read_with_ours(url: str, streams: int, reader: Reader) -> None:
    from provider.engines.exchange import Connections  # noqa: PLC0415

    parts = urlsplit(url)
    connections = Connections(f"{parts.scheme}://{parts.netloc}", {}, 10)
    question = connections.question(parts.path, {}, b"{}")

    async def read_one() -> None:
        exchange = await connections.open()
        await exchange.ask(question)
        async for chunk in exchange.chunks():
            reader.take(chunk)
        exchange.close()

    await asyncio.gather(*(read_one() for _ in range(streams)))


Client = Callable[[str, int, Reader], Awaitable[None]]
CLIENTS: dict[str, tuple[Client, str]] = {
    "httpx2": (read_with_httpx2, "httpx2"),
    "httpx over aiohttp": (read_with_httpx_aiohttp, "httpx_aiohttp"),
    "aiohttp": (read_with_aiohttp, "aiohttp"),
    "a provider's own": (read_with_ours, "httptools"),
    "bare httptools": (read_with_httptools, "httptools"),
}
BASE = "aiohttp"


# The processes


async def serve() -> None:
    """Answer `POST /<events>/<gap_ms>` with that many events; print the port."""
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b"{}"))  # what is left unread when a connection closes resets it
        events, gap_ms = head.split(b" ", 2)[1].strip(b"/").split(b"/")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        gap_s = float(gap_ms) / 1000
        served += 1
        due = time.monotonic() + gap_s * (served % 16) / 16  # not all streams in step
        for _ in range(int(events)):
            due += gap_s
            await asyncio.sleep(max(0.0, due - time.monotonic()) if gap_s else 0)
            event = b'data: {"t":%d,"choices":[{"delta":{"content":"%b"}}]}\n\n' % (time.monotonic_ns(), EVENT_PADDING)
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            if not gap_s:
                await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def read(client: str, url: str, streams: int) -> None:
    """Read the streams with one client; print its CPU seconds, and how old events were on arrival."""
    reader = Reader()
    before = resource.getrusage(resource.RUSAGE_SELF)
    await CLIENTS[client][0](url, streams, reader)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ages = statistics.quantiles(reader.ages_ms, n=100)
    print(json.dumps({"cpu_s": cpu_s, "received_bytes": reader.received_bytes, "p50_ms": ages[49], "p99_ms": ages[98]}))


def measure(client: str, load: Load, port: int) -> dict[str, float]:
    """One round of one client in a process of its own."""
    url = f"http://127.0.0.1:{port}/{load.events}/{load.gap_ms}"
    command = [*COMMAND, "--client", client, "--url", url, "--streams", str(load.streams)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=RUN_LIMIT_S)
    figures: dict[str, float] = json.loads(done.stdout)
    expected = load.events * load.streams
    if figures["received_bytes"] < expected * len(EVENT_PADDING):
        raise RuntimeError(f"{client} lost bytes: {figures}")
    return {**figures, "cpu_per_100k_s": figures["cpu_s"] / expected * 100_000}


def compare(clients: Sequence[str], rounds: int, port: int) -> None:
    """Measure all, and print the medians as a table."""
    seen: dict[tuple[str, str], list[dict[str, float]]] = {}
    for nth in range(rounds):
        for load in LOADS:
            # Each round begins with another client.
            for client in [*clients[nth % len(clients) :], *clients[: nth % len(clients)]]:
                seen.setdefault((load.name, client), []).append(measure(client, load, port))
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, uvloop; medians of {rounds} interleaved rounds\n")
    print(f"| load | client | CPU s per 100,000 events | against {BASE} | delay p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|")
    for load in LOADS:
        base = _median(seen[load.name, BASE], "cpu_per_100k_s")
        for client in clients:
            runs = seen[load.name, client]
            cpu_s, p50, p99 = (_median(runs, name) for name in ("cpu_per_100k_s", "p50_ms", "p99_ms"))
            print(f"| {load.name} | {client} | {cpu_s:.2f} | {cpu_s / base:.1f} | {p50:.2f} | {p99:.1f} |")


def _median(runs: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare HTTP clients on the hop to the engine.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--streams", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
    elif options.client:
        uvloop.run(read(options.client, options.url, options.streams))
    else:
        clients = [name for name, (_, module) in CLIENTS.items() if importlib.util.find_spec(module)]
        for missing in CLIENTS.keys() - clients:
            print(f"left out, not installed: {missing}")
        with subprocess.Popen([*COMMAND, "--serve"], stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                compare(clients, options.rounds, int(server.stdout.readline()))
            finally:
                server.terminate()


if __name__ == "__main__":
    end_when_told()
    main()
