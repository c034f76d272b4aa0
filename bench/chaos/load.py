"""Many clients in one process, seeded: what they ask for is the same in every run."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from bench.chaos.client import CHAT, COMPLETIONS, SILENCE_S, Ask, Client, Course, End, Hubs, Manner

READ_BUFFER_BYTES = 256 * 1024
SMALL_WINDOW_BYTES = 16 * 1024
"""The kernel's buffer of a slow client: a large one would hide that it is slow."""
COMPLETIONS_SHARE = 0.2
LOOK_S = 0.05
BETWEEN_S = 0.05
AFTER_ERROR_S = 1.0
"""Between the end of a client's request and its next; the second after an error, as Retry-After would have it."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the clients of one run ask for."""

    tokens: int = 300
    gap_ms: float = 50
    manners: Mapping[Manner, float] = field(default_factory=lambda: {Manner.PLAIN: 1.0})
    """How large a share of the clients is of each manner."""

    def draw(self, number: int, seed: int) -> Ask:
        """The request with this number of a run."""
        dice = random.Random(f"{seed}/{number}")
        manner = dice.choices(list(self.manners), list(self.manners.values()))[0]
        return Ask(
            number,
            manner,
            tokens=int(self.tokens * dice.uniform(0.8, 1.2)),
            gap_ms=self.gap_ms,
            hub=number,
            path=COMPLETIONS if dice.random() < COMPLETIONS_SHARE else CHAT,
            leaves_after=dice.randrange(1, self.tokens // 2),
        )


class Load:
    """Runs clients and keeps the course of every request."""

    def __init__(self, hubs: Hubs, limit_s: float) -> None:
        self.courses: list[Course] = []
        """Of all requests so far."""
        self._hubs = hubs
        self._limit_s = limit_s
        self._has_asked = asyncio.Event()

    async def wait_until_in_flight(self, within_s: float) -> None:
        """Until every stream has heard its first token; TimeoutError past the limit."""
        async with asyncio.timeout(within_s):
            await self._has_asked.wait()
            while not all(map(_is_in_flight, self.running)):  # noqa: ASYNC110 - the streams tell nobody
                await asyncio.sleep(LOOK_S)

    async def once(self, asks: list[Ask], ramp_s: float) -> None:
        """Ask all of these, evenly over so many seconds, and wait until the last is over."""
        async with self._clients() as client_of, asyncio.TaskGroup() as group:
            for ask in asks:
                group.create_task(self._ask(client_of(ask), ask))
                await asyncio.sleep(ramp_s / len(asks))
            self._has_asked.set()

    async def steadily(self, draw: Callable[[int], Ask], clients: int, stop: asyncio.Event, ramp_s: float) -> None:
        """So many clients, each asking again as soon as it is answered, until told to stop; then wait for the last."""
        numbers = iter(range(10**9))

        async def be_client(client_of: Callable[[Ask], Client]) -> None:
            while not stop.is_set():
                ask = draw(next(numbers))
                course = await self._ask(client_of(ask), ask)
                await asyncio.sleep(AFTER_ERROR_S if course.end is End.CLEAN_ERROR else BETWEEN_S)

        async with self._clients() as client_of, asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(be_client(client_of))
                await asyncio.sleep(ramp_s / clients)
            self._has_asked.set()

    @property
    def running(self) -> list[Course]:
        """Those that are not over."""
        return [course for course in self.courses if course.end is None]

    async def _ask(self, client: Client, ask: Ask) -> Course:
        course = Course(ask)
        self.courses.append(course)
        await client.ask(course)
        return course

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[Callable[[Ask], Client]]:
        async with _session(_socket) as session, _session(_small_socket) as slow_session:
            client = Client(session, self._hubs, self._limit_s)
            slow = Client(slow_session, self._hubs, self._limit_s)
            yield lambda ask: slow if ask.manner is Manner.SLOW else client


def _is_in_flight(course: Course) -> bool:
    return bool(course.heard.times_s) or not course.ask.is_stream or course.end is not None


def _session(make_socket: Callable[[aiohttp.AddrInfoType], socket.socket]) -> aiohttp.ClientSession:
    # Each request has a connection of its own, so that a client that goes, or whose hub does, is one request's matter.
    connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=make_socket)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=READ_BUFFER_BYTES)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    return socket.socket(*address[:3])


def _small_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    made = _socket(address)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW_BYTES)
    return made
