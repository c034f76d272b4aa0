"""A server that says byte for byte what it is told to, and who asks it as a provider asks its engine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from common.types import ModelId
from provider.engines.http import EngineHttp
from provider.protocol.engine import Question
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
