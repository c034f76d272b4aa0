"""A stretch of network between a provider and the broker that can stall, be cut, or die in one direction only."""

import asyncio
from contextlib import suppress
from enum import StrEnum

PIECE_BYTES = 64 * 1024


class Line(StrEnum):
    """The state of the line."""

    SOUND = "sound"
    STALLED = "stalled"
    """Connections stand, nothing passes."""
    CUT = "cut"
    """Connections are reset, new ones too."""


class Proxy:
    """Forwards TCP connections from a port of its own to the broker's."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._line = Line.SOUND
        self._is_sound = asyncio.Event()
        self._is_sound.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End all."""
        if self._server is not None:
            self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._abort_all()

    def be(self, line: Line) -> None:
        """Change the state of the line."""
        self._line = line
        if line is Line.SOUND:
            self._is_sound.set()
        else:
            self._is_sound.clear()
        if line is Line.CUT:
            self._abort_all()

    def half_close(self) -> None:
        """Tell each side of each connection that the other will say no more; what it says itself still passes."""
        for writer in self._open:
            with suppress(OSError, RuntimeError):
                writer.write_eof()

    def _abort_all(self) -> None:
        for writer in [*self._open]:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if self._line is Line.CUT:
                writer.transport.abort()
                return
            await self._is_sound.wait()
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        finally:
            self._open -= {writer, far_writer}
            for end in (writer, far_writer):
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, RuntimeError):  # the other direction ends by itself, or with the connection
            while data := await reader.read(PIECE_BYTES):
                await self._is_sound.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()
