"""A line to a cluster: each command is said where its key is, and again elsewhere if that has moved."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from redis import exceptions as rx
from redis.crc import key_slot

from common.broker.cluster import Cluster
from common.broker.line import Answer, Argument, Command, ConnectedAnewError, Line, OwnLine
from common.broker.url import Address

_KEYLESS = frozenset({"ACL", "CLIENT", "CLUSTER", "CONFIG", "INFO", "PING", "SCRIPT", "TIME"})
_SECOND = frozenset({"MEMORY", "OBJECT", "XGROUP", "XINFO"})
"""Commands of two words: their key is the third."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1
"""Between tries at keys that are just being moved."""


class ClusterLine(Line):
    """A line to each master, made when it is needed.

    Commands for one server are said in order; those for different ones overtake each other (see `ask_in_turn`). One
    without a key goes where the next one with a key goes, or to the master of the first slot.

    Args:
        cluster: who has which slot.
        line_to: makes a line to one server.
        timeout_s: for all tries together at keys that are being moved.
    """

    def __init__(self, cluster: Cluster, line_to: Callable[[Address], OwnLine], timeout_s: float) -> None:
        self._cluster = cluster
        self._line_to = line_to
        self._timeout_s = timeout_s
        self._lines: dict[Address, OwnLine] = {}
        self._masters: frozenset[Address] = frozenset()
        self._past_renewals = 0
        self._past_losses = 0

    @property
    def renewals(self) -> int:
        """See `Line`; a slot that another server has now counts as a connection that was made again."""
        return self._cluster.changes + self._past_renewals + sum(line.renewals for line in self._lines.values())

    @property
    def losses(self) -> int:
        """The same without the first connection to each server."""
        again = sum(max(0, line.renewals - 1) for line in self._lines.values())
        return self._cluster.changes + self._past_losses + again

    async def ask(self, commands: Sequence[Command], *, since: int | None = None) -> list[Answer]:
        """Say these, each where its key is; see `Line`."""
        loop = asyncio.get_running_loop()
        slots = slots_of(commands)
        answers: list[Answer] = [None] * len(commands)
        todo: Sequence[int] = range(len(commands))
        asked: Mapping[int, Address] = {}
        until, pause_s, is_first = loop.time() + self._timeout_s, _FIRST_PAUSE_S, True
        while True:
            await self._cluster.settle()
            routes: dict[Address, list[int]] = {}
            for number in todo:
                server = asked.get(number) or self._cluster.master_of(slots[number])
                routes.setdefault(server, []).append(number)
            lines = await self._opened(routes)
            if since is not None and since != self.renewals:
                if is_first:
                    raise ConnectedAnewError
                raise rx.ConnectionError("the keys have moved")  # part of it is said
            is_first = False
            found = await self._said(lines, routes, commands, asked)
            todo, asked, must_wait = self._sorted_out(found, slots, answers)
            if not todo:
                return answers
            if loop.time() > until:
                raise rx.TimeoutError("the keys are being moved for too long")
            if must_wait:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def ask_in_turn(self, *rounds: Sequence[Command]) -> list[Answer]:
        """Say these rounds; none before the last one was answered."""
        return [answer for commands in rounds for answer in await self.ask(commands)]

    async def aclose(self) -> None:
        """End all of them."""
        lines, self._lines = [*self._lines.values()], {}
        for line in lines:
            self._count(line)
            await line.aclose()

    async def _opened(self, servers: Sequence[Address] | Mapping[Address, object]) -> list[OwnLine]:
        """A line to each of these, all of them open at the same moment."""
        if self._masters != self._cluster.masters:
            self._masters = self._cluster.masters
            await self._leave_others()
        lines = []
        for server in servers:
            line = self._lines.get(server)
            if line is None:
                line = self._lines[server] = self._line_to(server)
            lines.append(line)
        try:
            while closed := [line for line in lines if not line.is_open]:
                await asyncio.gather(*(line.open() for line in closed))
        except (rx.RedisError, OSError):
            self._cluster.doubt()
            raise
        return lines

    async def _leave_others(self) -> None:
        """End the lines to servers that are masters no more: whoever reads from one hears so at once."""
        for server in [*self._lines]:
            if server not in self._cluster.masters:
                line = self._lines.pop(server)
                self._count(line)
                await line.aclose()

    def _count(self, line: OwnLine) -> None:
        self._past_renewals += line.renewals
        self._past_losses += max(0, line.renewals - 1)

    async def _said(
        self,
        lines: Sequence[OwnLine],
        routes: Mapping[Address, Sequence[int]],
        commands: Sequence[Command],
        asked: Mapping[int, Address],
    ) -> dict[int, tuple[Address, Answer]]:
        """The answers, and who gave them."""
        asks = [
            _ask(line, [commands[number] for number in numbers], [number in asked for number in numbers])
            for line, numbers in zip(lines, routes.values(), strict=True)
        ]
        try:
            # All of them to their end: an answer that is still out must not be taken for one to the next try.
            results = [await asks[0]] if len(asks) == 1 else await asyncio.gather(*asks, return_exceptions=True)
        except (rx.RedisError, OSError):
            self._cluster.doubt()
            raise
        found: dict[int, tuple[Address, Answer]] = {}
        for (server, numbers), result in zip(routes.items(), results, strict=True):
            if isinstance(result, BaseException):
                self._cluster.doubt()
                raise result
            found |= {number: (server, answer) for number, answer in zip(numbers, result, strict=True)}
        return found

    def _sorted_out(
        self, found: Mapping[int, tuple[Address, Answer]], slots: Sequence[int], answers: list[Answer]
    ) -> tuple[list[int], dict[int, Address], bool]:
        """Take the answers; what is to be said again, where that is not the slot's master, and whether to wait first.

        Raises:
            redis.exceptions.ClusterDownError: a server takes nothing at present.
        """
        again: list[int] = []
        asked: dict[int, Address] = {}
        must_wait = False
        for number, (server, answer) in found.items():
            if not isinstance(answer, rx.ResponseError):
                answers[number] = answer
            elif isinstance(answer, rx.MovedError):
                self._cluster.moved(slots[number], _target(server, answer))
                again.append(number)
            elif isinstance(answer, rx.AskError):
                asked[number] = _target(server, answer)
                again.append(number)
            elif isinstance(answer, rx.TryAgainError):
                must_wait = True
                again.append(number)
            elif isinstance(answer, rx.ClusterDownError):
                self._cluster.doubt()
                raise answer
            else:
                answers[number] = answer
        return again, asked, must_wait


def slots_of(commands: Sequence[Command]) -> list[int]:
    """The slot of each command; of one without a key, that of the next one that has one."""
    slots: list[int] = []
    slot = 0
    for command in reversed(commands):
        key = key_of(command)
        if key is not None:
            slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
        slots.append(slot)
    return slots[::-1]


def key_of(command: Command) -> Argument | None:
    """The first key of a command; all of them have the same slot, else the broker refuses it."""
    name = command[0]
    if name in _KEYLESS:
        return None
    if name == "EVALSHA":
        return command[3] if int(command[2]) else None
    if name in {"XREAD", "XREADGROUP"}:
        return next(key for word, key in pairwise(command) if word in ("STREAMS", b"STREAMS"))
    return command[2] if name in _SECOND else command[1]


async def _ask(line: OwnLine, commands: Sequence[Command], are_asking: Sequence[bool]) -> list[Answer]:
    """The answers to these; those for keys that are on their way to this server say so first."""
    if not any(are_asking):
        return await line.ask(commands)
    said: list[Command] = []
    for command, is_asking in zip(commands, are_asking, strict=True):
        said += [("ASKING",), command] if is_asking else [command]
    found = iter(await line.ask(said))
    return [(next(found), next(found))[1] if is_asking else next(found) for is_asking in are_asking]


def _target(server: Address, answer: rx.AskError) -> Address:
    """Where a server sends us; without a host it means its own."""
    return Address(answer.host.strip("[]") or server.host, answer.port)
