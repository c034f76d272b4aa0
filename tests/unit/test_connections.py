"""Connections that are too many, too slow or no HTTP at all, against a server in this process."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from common.serving import connections
from common.serving.connections import Crowd
from common.serving.server import HttpServer, bind

ASK = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


async def turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("full", 503, {"connection": "close"})(scope, receive, send)


@asynccontextmanager
async def serving(crowd: Crowd | None = None) -> AsyncIterator[int]:
    """A server that says hello; its port."""
    listener = bind("127.0.0.1", 0, send_timeout_s=5)
    server = HttpServer(hello, crowd)
    task = asyncio.create_task(server.serve_on(listener))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)


async def test_nobody_is_refused_once_it_is_said_where_it_serves() -> None:
    listener = bind("127.0.0.1", 0, send_timeout_s=5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), 5)
    server = HttpServer(hello)
    task = asyncio.create_task(server.serve_on(listener))
    with socket.create_connection(listener.getsockname(), 5) as visitor:  # the task has not had a turn yet
        visitor.sendall(ASK)
        assert (await asyncio.to_thread(visitor.recv, 100)).startswith(b"HTTP/1.1 200")
    server.should_exit = True
    await asyncio.wait_for(task, 10)


async def test_a_connection_that_was_made_is_heard_though_it_was_not_accepted_yet() -> None:
    listener = bind("127.0.0.1", 0, send_timeout_s=5)
    port = listener.getsockname()[1]
    server = HttpServer(hello)
    task = asyncio.create_task(server.serve_on(listener))
    while not server.started:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    with socket.create_connection(("127.0.0.1", port), 5) as visitor:  # while the server has no turn
        visitor.sendall(ASK)
        await server.stop_listening()
        answer = (await asyncio.to_thread(visitor.recv, 1000)).lower()
        assert answer.startswith(b"http/1.1 200")
        assert b"connection: close" in answer
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
    server.should_exit = True
    await asyncio.wait_for(task, 10)


async def test_who_stays_connected_is_told_to_go_with_an_answer_that_has_not_begun(visit: Any) -> None:
    listener = bind("127.0.0.1", 0, send_timeout_s=5)
    server = HttpServer(hello)
    task = asyncio.create_task(server.serve_on(listener))
    visitor, idle = await visit(listener.getsockname()[1]), await visit(listener.getsockname()[1])
    for one in (visitor, idle):
        assert await one.ask() == (200, b"hello")
    server.say_goodbye()
    assert await visitor.ask() == (200, b"hello")
    assert await visitor.is_ended()
    assert not idle.writer.transport.is_closing()
    await server.stop_listening()
    assert await idle.is_ended()
    server.should_exit = True
    await asyncio.wait_for(task, 10)


class Visitor:
    """One connection, as raw as it gets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def ask(self, sent: bytes = ASK) -> tuple[int, bytes]:
        """Send something; status and body of one answer."""
        self.writer.write(sent)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        head = await self._within(self._reader.readuntil(b"\r\n\r\n"))
        lines = head.decode().lower().split("\r\n")
        (length,) = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
        return int(lines[0].split()[1]), await self._within(self._reader.readexactly(length))

    async def is_ended(self) -> bool:
        """Wait until the server ends the connection, which may be by a reset; whether it says nothing more."""
        try:
            return await self._within(self._reader.read()) == b""
        except ConnectionError:
            return True

    async def _within(self, waiting: Any) -> Any:
        return await asyncio.wait_for(waiting, 10)


@pytest.fixture
async def visit() -> AsyncIterator[Any]:
    made: list[Visitor] = []

    async def one(port: int) -> Visitor:
        made.append(Visitor(*await asyncio.open_connection("127.0.0.1", port)))
        return made[-1]

    yield one
    for visitor in made:
        visitor.writer.transport.abort()


def refused(answer: tuple[int, bytes]) -> tuple[int, str]:
    status, body = answer
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error["code"]


async def test_one_too_many_is_told_so_and_comes_in_when_another_has_gone(visit: Any) -> None:
    async with serving(Crowd(2, turn_away)) as port:
        first, second = await visit(port), await visit(port)
        for visitor in (first, second):
            assert await visitor.ask() == (200, b"hello")
        late = await visit(port)
        assert await late.ask() == (503, b"full")
        assert await late.is_ended()

        assert await first.ask() == (200, b"hello")  # who was there is not disturbed
        first.writer.close()
        await first.writer.wait_closed()
        for _ in range(1000):
            if (await (await visit(port)).ask())[0] == 200:
                return
        pytest.fail("nobody gets in")


async def test_far_too_many_are_not_heard_at_all(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TURNED_AWAY_AT_ONCE", 1)
    async with serving(Crowd(1, turn_away)) as port:
        assert await (await visit(port)).ask() == (200, b"hello")
        await visit(port)
        assert await (await visit(port)).is_ended()


async def test_a_head_that_does_not_come_in_time_is_given_up(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.1)
    async with serving() as port:
        slow = await visit(port)
        assert refused(await slow.ask(ASK[:-2])) == (408, "header_timeout")
        assert await slow.is_ended()


async def test_a_second_head_that_does_not_come_in_time_is_given_up(
    visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.1)
    async with serving() as port:
        slow = await visit(port)
        assert await slow.ask() == (200, b"hello")
        assert refused(await slow.ask(b"G")) == (408, "header_timeout")


async def test_who_says_nothing_is_let_go_without_a_word(visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.1)
    async with serving() as port:
        assert await (await visit(port)).is_ended()


async def test_a_head_without_end_is_given_up(visit: Any) -> None:
    async with serving() as port:
        long = await visit(port)
        long.writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n")
        for number in range(connections.MAX_HEAD_BYTES // 1000 + 2):
            long.writer.write(b"x-%d: " % number + b"y" * 1000 + b"\r\n")
        assert refused(await long.answer()) == (431, "header_too_long")


async def test_a_long_body_is_no_long_head(visit: Any) -> None:
    async with serving() as port:
        visitor = await visit(port)
        size = connections.MAX_HEAD_BYTES * 3
        ask = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size
        visitor.writer.write(ask)
        assert await visitor.ask(b"x" * size) == (200, b"hello")
        assert await visitor.ask() == (200, b"hello")


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 hello", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_is_no_http_is_refused_in_a_known_shape(visit: Any, sent: bytes) -> None:
    async with serving() as port:
        assert refused(await (await visit(port)).ask(sent)) == (400, "invalid_http")
