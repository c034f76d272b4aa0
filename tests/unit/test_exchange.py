"""Answers of engines as they come off the wire, whole or broken off, and what goes out to ask for them."""

import asyncio

import pytest

from provider.engines.exchange import MAX_HEAD_BYTES, READ_BUFFER_BYTES, Connections
from provider.errors import EngineBroke, EngineRefused
from tests.unit.byte_server import CHUNKED, QUESTION, WHOLE, answer_of, http_to, read_question, says, serving


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
