"""The connections that questions to an engine go out on, against a server that says byte for byte what it is told."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from common.types import ModelId
from provider.engines.base import Question
from provider.engines.exchange import MAX_HEAD_BYTES, READ_BUFFER_BYTES, Connections, ExchangeBroken
from provider.engines.http import RESEND_S, EngineHttp
from provider.errors import EngineBroke, EngineDown, EngineRefused
from provider.settings import EngineSettings

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
QUESTION = Question("r1", "/v1/chat/completions", ModelId("m"), stream=False, body=b'{"model":"m"}')


async def read_question(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head + await reader.readexactly(int(length.partition(b":")[2]))


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """The URL of a server whose connections are served so."""
    tasks: set[asyncio.Task[None]] = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(begin, "127.0.0.1", 0, limit=2**20)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(*answers: bytes) -> Serve:
    """Says this to each question in turn, on each connection, and closes it then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_question(reader)
            writer.write(answer)
            await writer.drain()

    return serve


def http_to(url: str) -> EngineHttp:
    return EngineHttp(EngineSettings(url=url, connect_timeout_s=2), url)


async def answer_of(http: EngineHttp) -> tuple[int, str, bytes]:
    async with http.ask(QUESTION) as answer:
        return answer.status, answer.content_type, b"".join([chunk async for chunk in answer.chunks()])


class TestAnswers:
    @pytest.mark.parametrize(
        ("said", "body"),
        [
            (WHOLE, b"{}"),
            (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
            (b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nuntil the end", b"until the end"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + WHOLE, b"{}"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ],
    )
    async def test_each_kind_of_end_is_an_end(self, said: bytes, body: bytes) -> None:
        async with serving(says(said)) as url:
            http = http_to(url)
            assert (await answer_of(http))[2] == body
            await http.aclose()

    @pytest.mark.parametrize(
        "said",
        [
            CHUNKED + b"3\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            CHUNKED + b"zzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + b"x" * 16 * MAX_HEAD_BYTES + b"\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    async def test_what_is_not_whole_or_no_answer_breaks_off(self, said: bytes) -> None:
        async with serving(says(said)) as url:
            http = http_to(url)
            with pytest.raises(EngineBroke) as caught:
                await answer_of(http)
            await http.aclose()
        assert caught.value.failure.retryable

    async def test_it_is_asked_with_what_it_needs_and_nothing_that_could_be_another_header(self) -> None:
        heard: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await read_question(reader))
            writer.write(WHOLE)

        async with serving(serve) as url:
            connections = Connections(url.replace("//", "//user:pa%20ss@") + "/sub", {}, 2)
            exchange = await connections.open()
            question = connections.question("/v1/x", {"X-Request-Id": "a\r\nEvil: 1", "traceparent": "t"}, b"{}")
            await exchange.ask(question)
            exchange.close()
        lines = heard[0].split(b"\r\n")
        assert lines[0] == b"POST /sub/v1/x HTTP/1.1"
        assert lines[1] == b"Host: " + url.removeprefix("http://").encode()
        assert b"Authorization: Basic dXNlcjpwYSBzcw==" in lines
        assert b"traceparent: t" in lines
        assert b"Evil" not in heard[0]
        assert lines[-1] == b"{}"

    async def test_a_path_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no path"):
            Connections("http://127.0.0.1:1", {}, 1).question("/v1 HTTP/1.1\r\nx: ", {}, b"")

    async def test_a_refusal_is_told_in_its_words(self) -> None:
        refusal = b'HTTP/1.1 400 Bad\r\n\r\n{"error":{"message":"no such x"}}'
        async with serving(says(refusal)) as url:
            http = http_to(url)
            with pytest.raises(EngineRefused, match="no such x"):
                await answer_of(http)
            await http.aclose()

    async def test_one_that_is_not_taken_is_read_no_further(self) -> None:
        block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        written = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await read_question(reader)
            writer.transport.set_write_buffer_limits(high=0)  # type: ignore[attr-defined]
            writer.write(CHUNKED)
            for _ in range(1000):
                writer.write(block)
                await writer.drain()
                written += 1
            writer.write(b"0\r\n\r\n")

        async with serving(serve) as url:
            http = http_to(url)
            async with http.ask(QUESTION) as answer:
                before = -1
                while before != written or not written:
                    before = written
                    await asyncio.sleep(0.2)
                assert written < 300, "the rest waits at the engine"
                size = sum([len(chunk) async for chunk in answer.chunks()])
            await http.aclose()
        assert size == 1000 * 0x10000
        assert size > READ_BUFFER_BYTES


class TestConnections:
    async def test_one_is_kept_for_the_next_question_if_its_answer_was_read(self) -> None:
        begun = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal begun
            begun += 1
            while True:
                await read_question(reader)
                writer.write(WHOLE)

        async with serving(serve) as url:
            http = http_to(url)
            for _ in range(3):
                assert (await answer_of(http))[2] == b"{}"
            assert begun == 1
            async with http.ask(QUESTION):
                pass  # unread: nobody knows where the next answer would begin
            assert (await answer_of(http))[2] == b"{}"
            assert begun == 2
            await http.aclose()

    async def test_one_that_says_that_it_closes_is_not_used_again(self) -> None:
        begun = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal begun
            begun += 1
            await read_question(reader)
            writer.write(WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            await reader.read()

        async with serving(serve) as url:
            http = http_to(url)
            for _ in range(2):
                assert (await answer_of(http))[2] == b"{}"
            await http.aclose()
        assert begun == 2

    async def test_a_question_into_one_that_was_closing_is_asked_again_on_a_new_one(self) -> None:
        """As llama.cpp's server does after a streamed answer."""
        async with serving(says(WHOLE, b"")) as url:  # the second question of a connection finds it closed
            http = http_to(url)
            for _ in range(4):
                assert (await answer_of(http))[2] == b"{}"
            await http.aclose()

    @pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    @pytest.mark.parametrize("closed_s", [0.005, 0.04], ids=["before", "behind"])
    def test_one_that_its_engine_did_not_read_is_asked_again_however_late_that_is_seen(
        self, closed_s: float, loop_factory: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """The engine closes the connection before the question comes into it, or behind that, and the loop is busy."""

        def serve(listener: socket.socket) -> None:
            for is_first in (True, False):
                connection, _ = listener.accept()
                connection.recv(65_536)
                connection.sendall(WHOLE)
                time.sleep(closed_s if is_first else 0)
                connection.close()

        async def ask_twice(url: str) -> bytes:
            http = http_to(url)
            await answer_of(http)
            if closed_s < 0.02:
                time.sleep(0.02)  # noqa: ASYNC251 - the loop is busy, and does not see it closed
            asyncio.get_running_loop().call_soon(time.sleep, 4 * RESEND_S)
            said = (await answer_of(http))[2]
            await http.aclose()
            return said

        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=serve, args=(listener,))
            server.start()
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                assert runner.run(ask_twice(f"http://127.0.0.1:{listener.getsockname()[1]}")) == b"{}"
            server.join(5)

    async def test_a_question_is_not_asked_again_where_it_may_have_begun(self) -> None:
        asked = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            await read_question(reader)
            writer.write(WHOLE)
            await read_question(reader)
            asked += 1
            await asyncio.sleep(2 * RESEND_S)

        async with serving(serve) as url:
            http = http_to(url)
            await answer_of(http)
            with pytest.raises(EngineBroke):
                await answer_of(http)
            await http.aclose()
        assert asked == 1

    async def test_a_question_that_took_the_engine_with_it_is_a_failed_attempt(self) -> None:
        """Else a poisonous one would be given back as if the engine had been down before."""
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_question(reader)
            writer.write(WHOLE)
            await read_question(reader)
            server.close()
            gone.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        http = http_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await answer_of(http)
        (exchange,) = http._connections._idle
        task = asyncio.create_task(answer_of(http))
        await gone.wait()
        exchange.close()
        with pytest.raises(EngineBroke):
            await task
        with pytest.raises(EngineDown):
            await answer_of(http)
        await http.aclose()

    async def test_a_question_that_is_called_off_closes_its_connection(self) -> None:
        asked, closed = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await read_question(reader)
            asked.set()
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            closed.set()

        async with serving(serve) as url:
            http = http_to(url)
            task = asyncio.create_task(answer_of(http))
            async with asyncio.timeout(5):
                await asked.wait()
            task.cancel()
            async with asyncio.timeout(5):
                await closed.wait()
            await http.aclose()

    async def test_one_that_speaks_unasked_is_closed(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_question(reader)
            writer.write(WHOLE)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(WHOLE)
            assert await reader.read() == b""

        async with serving(serve) as url:
            http = http_to(url)
            await answer_of(http)
            async with asyncio.timeout(5):
                while http._connections._idle:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
            await http.aclose()

    async def test_nobody_there_is_an_error_of_the_system(self) -> None:
        with pytest.raises(ConnectionRefusedError):
            await Connections("http://127.0.0.1:1", {}, 1).open()

    async def test_asking_on_a_closed_one_breaks_at_once(self) -> None:
        async with serving(says(WHOLE)) as url:
            connections = Connections(url, {}, 1)
            exchange = await connections.open()
            exchange.close()
            with pytest.raises(ExchangeBroken):
                await exchange.ask(connections.question("/", {}, b""))
