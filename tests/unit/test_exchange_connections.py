"""The connections that questions to an engine go out on: kept, used again, closed in the wrong moment."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import uvloop

from provider.engines.exchange import Connections, ExchangeBroken
from provider.engines.http import RESEND_S
from provider.errors import EngineBroke, EngineDown
from tests.unit.byte_server import QUESTION, WHOLE, answer_of, http_to, read_question, says, serving


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
