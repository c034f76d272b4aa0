"""A line to the broker for what is said on a request's way: one connection on which all tasks speak at once.

What is asked in one turn of the event loop goes out in one write, and a future for each caller waits for its answers.
redis-py makes the connection, with its TLS, its users and its sentinels, and greets the broker; then its socket is
taken over. Measured against redis-py's pipelines see docs/performance.md.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from redis import exceptions as rx
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from common.broker.errors import is_deposed

Argument = bytes | str | int | float
"""What can be a part of a command."""
Command = Sequence[Argument]
Answer = Any
"""What the broker says to a command, in RESP2's shapes; a redis ResponseError where it refuses."""

_MORE = object()


class ConnectedAnewError(Exception):
    """The line is no longer the one that the caller meant: nothing was said."""


class Line(ABC):
    """Where commands are said. Every method raises redis-py's ConnectionError or TimeoutError where it is down."""

    @property
    @abstractmethod
    def renewals(self) -> int:
        """Rises with each connection: as long as it stays, the broker has all that it said yes to."""

    @abstractmethod
    async def ask(self, commands: Sequence[Command], *, since: int | None = None) -> list[Answer]:
        """Say these one behind the other; an answer to each.

        In a cluster those that go to different servers overtake each other: see `ask_in_turn`.

        Args:
            commands: at least one.
            since: `renewals` as it was; ConnectedAnewError if it has risen meanwhile.
        """

    async def ask_in_turn(self, *rounds: Sequence[Command]) -> list[Answer]:
        """Say these rounds; nothing of one comes to be before all of the last one has, in a cluster neither."""
        return await self.ask([command for commands in rounds for command in commands])

    async def say(self, *command: Argument) -> Answer:
        """Say this one; the redis ResponseError is raised if the broker refuses it."""
        (answer,) = await self.ask((command,))
        if isinstance(answer, rx.ResponseError):
            raise answer
        return answer

    @abstractmethod
    async def aclose(self) -> None:
        """End it; who asks again has a new one."""


class OwnLine(Line):
    """A line with a connection of its own, which is made when it is needed.

    Args:
        pool: says how to make it; the connection is none of those that it counts.
        timeout_s: for an answer; the connection is given up then.
        is_cut_by_cancel: whether a caller that is cancelled ends the connection, as one that blocks must.
    """

    renewals = 0

    def __init__(self, pool: ConnectionPool, timeout_s: float, *, is_cut_by_cancel: bool = False) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._is_cut_by_cancel = is_cut_by_cancel
        self._connection: AbstractConnection | None = None
        self._wire: _Wire | None = None
        self._opening: asyncio.Task[_Wire] | None = None

    @property
    def is_open(self) -> bool:
        """Whether what is asked now goes out without a connection to be made first."""
        return self._wire is not None and not self._wire.is_lost

    async def open(self) -> None:
        """Make the connection, if there is none."""
        if not self.is_open:
            await self._open()

    async def ask(self, commands: Sequence[Command], *, since: int | None = None) -> list[Answer]:
        """Say these one behind the other; see `Line`."""
        wire = self._wire
        if wire is None or wire.is_lost:
            wire = await self._open()
        if since is not None and since != self.renewals:
            raise ConnectedAnewError
        answers = wire.ask(commands)
        if not self._is_cut_by_cancel:
            return await answers
        try:
            return await answers
        except asyncio.CancelledError:
            wire.lose(rx.ConnectionError("the read was cut off"))
            raise

    async def aclose(self) -> None:
        """End it."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._wire is not None:
            self._wire.lose(rx.ConnectionError("the line was closed"))
            self._wire = None
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def _open(self) -> "_Wire":
        """All who wait for it share one attempt, and hear the same if it fails."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect(), name="line")
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, opening: "asyncio.Task[_Wire]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # those who wait hear it; there may be none left

    async def _connect(self) -> "_Wire":
        connection = self._connection
        if connection is None:
            connection = self._connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.disconnect(nowait=True)
        await connection.connect()
        wire = self._wire = _Wire(connection, self._timeout_s)
        self.renewals += 1
        return wire


class _Asked:
    """What one caller waits for."""

    __slots__ = ("answers", "count", "due_at", "future")

    def __init__(self, future: "asyncio.Future[list[Answer]]", count: int, due_at: float) -> None:
        self.future = future
        self.count = count
        self.due_at = due_at
        self.answers: list[Answer] = []


class _Wire(asyncio.Protocol):
    """The socket of a connection that redis-py has made."""

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        writer = connection._writer  # noqa: SLF001 - there is no other way to its socket
        if writer is None:
            raise rx.ConnectionError("the connection was lost at once")
        self._transport = writer.transport
        self._reader = hiredis.Reader(
            protocolError=rx.InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_MORE
        )
        self._unsent: list[bytes] = []
        self._asked: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.is_lost = False
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            self.is_lost = True

    def ask(self, commands: Sequence[Command]) -> "asyncio.Future[list[Answer]]":
        """Queue these for the next write; their answers."""
        loop = self._loop
        asked = _Asked(loop.create_future(), len(commands), loop.time() + self._timeout_s)
        if self.is_lost:
            asked.future.set_exception(rx.ConnectionError("the connection was lost"))
            return asked.future
        # All of them first: one that cannot be packed must leave no answer behind that belongs to nobody.
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]  # its stub says one word
        if not self._unsent:
            loop.call_soon(self._send)
        self._unsent += packed
        self._asked.append(asked)
        if self._timer is None:
            self._timer = loop.call_at(asked.due_at, self._look_at_clock)
        return asked.future

    def lose(self, error: Exception) -> None:
        """End it; all who wait hear this error."""
        self.is_lost = True
        self._unsent = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked, self._asked = self._asked, deque()
        for one in asked:
            if not one.future.done():
                one.future.set_exception(error)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Give each answer to the one who waits for it."""
        reader = self._reader
        reader.feed(data)
        try:
            while (answer := reader.gets()) is not _MORE:
                if not self._asked:
                    raise rx.InvalidResponse("an answer that nobody asked for")
                self._take(answer)
        except rx.InvalidResponse as exc:
            self.lose(rx.ConnectionError(f"the broker said what cannot be read: {exc}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self.lose(rx.ConnectionError(str(exc) if exc else "Connection closed by server."))

    def _take(self, answer: Answer) -> None:
        asked = self._asked[0]
        if isinstance(answer, Exception):
            if is_deposed(answer):
                self.lose(rx.ConnectionError(str(answer)))  # the next one leads to whoever is the master by then
                return
            if isinstance(answer, rx.ConnectionError) and not asked.future.done():  # it loads, or we are not let in
                asked.future.set_exception(answer)
        asked.answers.append(answer)
        if len(asked.answers) == asked.count:
            self._asked.popleft()
            if not asked.future.done():
                asked.future.set_result(asked.answers)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():  # else all who asked hear in a moment that it is lost
            self._transport.write(b"".join(unsent))

    def _look_at_clock(self) -> None:
        self._timer = None
        if not self._asked:
            return
        due_at = self._asked[0].due_at
        if due_at <= self._loop.time():
            self.lose(rx.TimeoutError("the broker gave no answer in time"))
        else:
            self._timer = self._loop.call_at(due_at, self._look_at_clock)
