"""A TCP line between a client and a broker that loses answers, holds bytes or breaks, as told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Line:
    """Passes bytes both ways until it is told otherwise."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._answers_to_lose = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._transports: set[asyncio.WriteTransport] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.url = ""
        self.answers_lost = 0

    def lose_answers(self, count: int = 1) -> None:
        """The next so many answers of the broker are lost, each with its connection; what they answer was done."""
        self._answers_to_lose = count

    def hold(self) -> None:
        """Let nothing pass for now."""
        self._is_open.clear()

    def release(self) -> None:
        """Let all pass again."""
        self._is_open.set()

    def cut(self) -> None:
        """Break every connection now."""
        for transport in [*self._transports]:
            transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        ends = {writer.transport, up_writer.transport}
        self._transports |= ends
        pumps = [
            asyncio.create_task(self._pump(reader, up_writer, is_answer=False)),
            asyncio.create_task(self._pump(up_reader, writer, is_answer=True)),
        ]
        self._pumps.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
        self._pumps.difference_update(pumps)
        for end in ends:
            end.abort()
        self._transports -= ends

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._is_open.wait()
                if is_answer and self._answers_to_lose > 0:
                    self._answers_to_lose -= 1
                    self.answers_lost += 1
                    return
                sink.write(data)
                await sink.drain()


@asynccontextmanager
async def line_to(server_port: int) -> AsyncIterator[Line]:
    """A line to a broker on loopback; `line.url` is its own address."""
    line = Line(server_port)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield line
    finally:
        server.close()
        line.release()
        line.cut()
        await server.wait_closed()
