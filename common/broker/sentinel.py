"""A broker that sentinels look after: which of its servers is the master.

redis-py has pools of its own for this; they raise when all connections are taken, leave those that are in use at a
server that is the master no more, and believe the first sentinel that answers.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakSet

import structlog
from redis import exceptions as rx
from redis.asyncio import Redis

from common.broker.url import Address

log = structlog.get_logger()

SENTINEL_TIMEOUT_S = 1.0
"""How long to wait for one sentinel, and as long for its connection: the others can answer for it."""
LOOK_S = 2.0
"""How often to ask without need: how long writes may go to a master that was deposed while it was well."""
_DOWN = frozenset({"s_down", "o_down"})


@dataclass(frozen=True, slots=True)
class Word:
    """What one sentinel says of a service."""

    epoch: int
    """Rises with each failover that it knows of."""
    is_promoted: bool
    """It carries out a failover just now, and has made this server the master."""
    is_down: bool
    """It cannot reach this server."""
    master: Address


class Follower(Protocol):
    """A connection that is to lead to the master."""

    def leave_unless_at(self, master: Address) -> None:
        """Be cut if it leads elsewhere."""


class Sentinels:
    """Knows which server is the master. One for all connections of a process, so that all leave an old one at once.

    From the first question on it looks now and then by itself, until it is closed: a master that was deposed while it
    was well goes on taking writes for some seconds, and all of them are lost.
    """

    def __init__(self, service: str, clients: Sequence[Redis]) -> None:
        self._service = service
        self._clients = clients
        self._connections: WeakSet[Follower] = WeakSet()
        self._asking: dict[Redis, asyncio.Task[Word | str]] = {}
        self._watch: asyncio.Task[None] | None = None
        self.master: Address | None = None
        """As it was named last."""

    async def find(self) -> Address:
        """Ask for the master now: more than half of the sentinels, or those that answer; all, if those don't agree.

        Connections to other servers are cut, those too that others read from at the moment.

        Raises:
            redis.exceptions.ConnectionError: no sentinel answers, or the master is down and no other one chosen yet.
        """
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_now_and_then(), name="sentinels")
        words, troubles = await self._ask_most()
        if not words:
            raise rx.ConnectionError(f"no sentinel tells the master of {self._service!r}: {'; '.join(troubles)}")
        believed = _newest(words)
        there = [word.master for word in believed if not word.is_down]
        if not there:
            raise rx.ConnectionError(f"the master of {self._service!r}, {believed[0].master}, is down")
        if there[0] != self.master:
            if self.master is not None:
                log.warning("broker_moved", service=self._service, old=str(self.master), new=str(there[0]))
            self.master = there[0]
            for connection in [*self._connections]:
                connection.leave_unless_at(there[0])
        return there[0]

    def follow(self, connection: Follower) -> None:
        """Cut this connection when another server is the master."""
        self._connections.add(connection)

    async def aclose(self) -> None:
        """Look no more, and close the connections to the sentinels."""
        tasks = [*self._asking.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(rx.ConnectionError):  # whoever needs a connection then hears it
                await self.find()

    async def _ask_most(self) -> tuple[list[Word], list[str]]:
        """What more than half of them say, or all that say anything; and why others don't.

        If some of those with the newest word say that the master is down and others don't, the rest is heard too: one
        that has slept knows nothing of it, and another may know who is the master since.
        """
        for client in self._clients:
            if client not in self._asking or self._asking[client].done():  # one that hangs is not asked twice
                self._asking[client] = asyncio.create_task(self._ask(client))
        pending = set(self._asking.values())
        answers: list[Word | str] = []
        words: list[Word] = []
        while pending and (len(words) * 2 <= len(self._clients) or _is_disputed(words)):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            answers += [task.result() for task in done]
            words = [answer for answer in answers if isinstance(answer, Word)]
        return words, [answer for answer in answers if isinstance(answer, str)]

    async def _ask(self, client: Redis) -> Word | str:
        """What a sentinel says; a line on why it says nothing. Takes two round trips' limits at most."""
        pipe = client.pipeline(transaction=False)
        # This one names the server that is being promoted at once; the other only when all replicas follow it.
        pipe.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        pipe.execute_command("SENTINEL", "MASTER", self._service)
        try:
            answers: Any = await pipe.execute()
            return _word(*answers)
        except (rx.RedisError, OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
            return str(exc) or type(exc).__name__


def _newest(words: Sequence[Word]) -> list[Word]:
    """Those that know of the last failover."""
    newest = max((word.epoch, word.is_promoted) for word in words)
    return [word for word in words if (word.epoch, word.is_promoted) == newest]


def _is_disputed(words: Sequence[Word]) -> bool:
    return len({word.is_down for word in _newest(words)}) > 1


def _word(named: Sequence[bytes], told: Sequence[bytes]) -> Word:
    """Read the answers of a sentinel; ValueError, LookupError, TypeError or AttributeError if none answers so."""
    facts = {name.decode(): value.decode() for name, value in zip(told[::2], told[1::2], strict=True)}
    master = Address(named[0].decode(), int(named[1]))
    is_promoted = master != Address(facts["ip"], int(facts["port"]))
    is_down = not is_promoted and not _DOWN.isdisjoint(facts["flags"].split(","))
    return Word(int(facts["config-epoch"]), is_promoted, is_down, master)
