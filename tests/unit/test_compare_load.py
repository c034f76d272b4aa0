"""The comparison's load generator sees every event that is lost, said twice, out of order or late, and every error."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from bench.compare.engine import Exchange
from bench.compare.load import Figures, Run, Task
from bench.compare.wire import question, wanted

EVENTS = 20


@pytest.fixture
async def engine_port() -> AsyncIterator[int]:
    made: list[Exchange] = []

    def exchange() -> Exchange:
        made.append(Exchange())
        return made[-1]

    server = await asyncio.get_running_loop().create_server(exchange, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for one in made:
            one._transport.abort()
    await asyncio.sleep(0)


async def run(port: int, **task: object) -> Figures:
    return await Run(Task(port=port, **{"events": EVENTS, "within_s": 10.0, **task})).go()  # type: ignore[arg-type]


class Gateway:
    """Hands the engine's answer on, in pieces as long as it is told, after doing something to it."""

    def __init__(self, engine_port: int, harm: Callable[[bytes], bytes], piece_bytes: int) -> None:
        self._engine_port = engine_port
        self._harm = harm
        self._piece_bytes = piece_bytes

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        whole = self._harm(await self._asked(head + body))
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(whole), self._piece_bytes):
            piece = whole[at : at + self._piece_bytes]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def _asked(self, request: bytes) -> bytes:
        """The engine's whole stream, without its chunks."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._engine_port)
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        parts: list[bytes] = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        writer.close()
        return b"".join(parts)


async def through(engine_port: int, harm: Callable[[bytes], bytes], piece_bytes: int = 10_000) -> Figures:
    gateway = Gateway(engine_port, harm, piece_bytes)
    async with await asyncio.start_server(gateway.serve, "127.0.0.1", 0) as server:
        return await run(server.sockets[0].getsockname()[1])


def events_of(answer: bytes) -> list[bytes]:
    return answer.split(b"\n\n")


def joined(events: Sequence[bytes]) -> bytes:
    return b"\n\n".join(events)


async def test_an_engine_alone_says_every_event_once(engine_port: int) -> None:
    figures = await run(engine_port, streams=3)
    assert (figures.requests, figures.events, figures.errors) == (3, 3 * EVENTS, 0)
    assert (figures.lost, figures.repeated, figures.disordered) == (0, 0, 0)
    assert 0 < figures.inbound_ms <= figures.first_ms


async def test_a_pace_is_kept_and_seen(engine_port: int) -> None:
    figures = await run(engine_port, events=10, pace_ms=20)
    assert figures.events == 10
    assert 10 < figures.gap_p50_ms < 40
    assert figures.seconds >= 9 * 0.020


async def test_whole_answers_are_asked_for_as_long_as_there_is_time(engine_port: int) -> None:
    figures = await run(engine_port, is_stream=False, events=1, for_s=0.2, streams=2)
    assert figures.requests == figures.events > 2
    assert (figures.errors, figures.lost) == (0, 0)


@pytest.mark.parametrize("piece_bytes", [7, 150, 1000, 100_000])
async def test_how_the_bytes_are_cut_makes_no_difference(engine_port: int, piece_bytes: int) -> None:
    figures = await through(engine_port, lambda answer: answer, piece_bytes)
    assert (figures.events, figures.errors, figures.lost, figures.repeated) == (EVENTS, 0, 0, 0)


async def test_json_may_be_spaced_otherwise(engine_port: int) -> None:
    figures = await through(engine_port, lambda answer: answer.replace(b'"content":', b'"content": '))
    assert (figures.events, figures.lost) == (EVENTS, 0)


async def test_a_lost_event_is_seen(engine_port: int) -> None:
    figures = await through(engine_port, lambda answer: joined([*events_of(answer)[:4], *events_of(answer)[6:]]))
    assert (figures.lost, figures.repeated) == (2, 0)


async def test_an_event_said_twice_is_seen(engine_port: int) -> None:
    figures = await through(engine_port, lambda answer: joined([*events_of(answer)[:4], *events_of(answer)[3:]]))
    assert (figures.lost, figures.repeated) == (0, 1)


async def test_events_out_of_order_are_seen(engine_port: int) -> None:
    def swap(answer: bytes) -> bytes:
        first, second, *rest = events_of(answer)
        return joined([second, first, *rest])

    figures = await through(engine_port, swap)
    assert (figures.lost, figures.repeated, figures.disordered) == (0, 0, 1)


async def test_a_stream_without_an_end_is_an_error(engine_port: int) -> None:
    figures = await through(engine_port, lambda answer: answer.replace(b"data: [DONE]\n\n", b""))
    assert (figures.errors, figures.requests) == (1, 0)
    assert "without [DONE]" in figures.error


async def test_an_error_in_the_stream_is_an_error(engine_port: int) -> None:
    figures = await through(engine_port, lambda answer: b'data: {"error": {"message": "no"}}\n\n' + answer)
    assert figures.errors == 1
    assert "error in the answer" in figures.error


async def test_silence_is_an_error_at_the_limit() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        figures = await run(server.sockets[0].getsockname()[1], within_s=0.2, streams=2)
    assert figures.errors == 2
    assert "not done within" in figures.error


@pytest.mark.parametrize("is_stream", [True, False])
def test_what_is_asked_is_what_the_engine_reads(is_stream: bool) -> None:
    body = question(events=7, pace_ms=12.5, stream=is_stream, nth=3)
    assert wanted(body) == (7, 0.0125, is_stream, False)
    assert wanted(body.replace(b"{", b'{"stream_options": {"include_usage": true}, ', 1))[3]
