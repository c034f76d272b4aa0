"""A broker that is a cluster: which of its servers keeps which slot, as the cluster itself tells.

redis-py has a client for clusters. It repeats commands whose answers were lost, asks nobody who the master is once a
connection to it hangs, and has no way to tell that a server that took over may have forgotten what the last one said
yes to; what this project promises rests on that.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import structlog
from redis import exceptions as rx
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from common.broker.line import Answer, Line
from common.broker.url import PORT, Address

log = structlog.get_logger()

LOOK_TIMEOUT_S = 1.0
"""How long to wait for one server to say how the slots are given out: another one can answer for it."""
LOOK_GAP_S = 0.1
"""How often to ask at most."""


class Cluster:
    """Knows the servers. One for all lines of a process, so that all of them leave a lost master at once.

    Args:
        seeds: some of its servers.
        line_to: makes a line to one server, for a few words.
    """

    def __init__(self, seeds: Sequence[Address], line_to: Callable[[Address], Line]) -> None:
        self._seeds = [Address(one.host, one.port or PORT) for one in seeds]
        self._line_to = line_to
        self._slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._replicas: frozenset[Address] = frozenset()
        self._looking: asyncio.Task[None] | None = None
        self._is_doubtful = True
        self._looked_at = -LOOK_GAP_S
        self.masters: frozenset[Address] = frozenset()
        """Those that have slots."""
        self.changes = 0
        """Rises when a slot is seen to be another server's: what the last one said yes to may be forgotten."""

    def master_of(self, slot: int) -> Address:
        """Who has a slot.

        Raises:
            redis.exceptions.ConnectionError: nobody, as far as is known.
        """
        master = self._slots[slot]
        if master is None:
            self.doubt()
            raise rx.ConnectionError(f"no server of the cluster has slot {slot}")
        return master

    def doubt(self) -> None:
        """Something went wrong that a new look may mend."""
        self._is_doubtful = True

    def moved(self, slot: int, master: Address) -> None:
        """A server has said that another one has this slot."""
        if self._slots[slot] != master:
            self._slots[slot] = master
            self.masters |= {master}
            self.changes += 1
        self.doubt()

    async def settle(self) -> None:
        """Look how the slots are given out, if that is in doubt; all who wait share one look.

        Raises:
            redis.exceptions.RedisError: no server tells.
        """
        if not self._is_doubtful:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="cluster")
            self._looking.add_done_callback(self._looked)
        await asyncio.shield(self._looking)

    async def everywhere(self, *command: str | bytes) -> list[Answer]:
        """Say this to every server, replicas too; an answer of each, which may be a redis ResponseError.

        Raises:
            redis.exceptions.RedisError: one of them cannot be reached.
        """
        self.doubt()
        await self.settle()
        return await asyncio.gather(*(self._say(one, command) for one in sorted(self.servers(), key=str)))

    def servers(self) -> frozenset[Address]:
        """All that are known."""
        return self.masters | self._replicas

    async def aclose(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _say(self, server: Address, command: Sequence[str | bytes]) -> Answer:
        line = self._line_to(server)
        try:
            (answer,) = await line.ask((command,))
        finally:
            await line.aclose()
        return answer

    def _looked(self, looking: "asyncio.Task[None]") -> None:
        self._looking = None
        if not looking.cancelled():
            looking.exception()  # those who wait hear it; there may be none left

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0, self._looked_at + LOOK_GAP_S - loop.time()))
        troubles: list[rx.RedisError | OSError] = []
        for server in self._candidates():
            try:
                told = await self._say(server, ("CLUSTER", "SLOTS"))
                if isinstance(told, rx.ResponseError):
                    raise told
                self._take(server, told)
            except (rx.RedisError, OSError) as exc:
                troubles.append(exc)
            else:
                return
            finally:
                self._looked_at = loop.time()
        # One that does not let us in, or is no cluster, says more than those that are away.
        refusals = [one for one in troubles if isinstance(one, rx.ResponseError | rx.AuthenticationError)]
        if refusals:
            raise refusals[0]
        raise rx.ConnectionError(f"no server of the cluster answers: {'; '.join(map(str, troubles))}")

    def _candidates(self) -> Iterable[Address]:
        """Whom to ask: those that are known first, each group in any order, so that processes spread."""
        groups = [[*self.masters], [*self._replicas], [*self._seeds]]
        for group in groups:
            random.shuffle(group)
        return dict.fromkeys(chain(*groups))

    def _take(self, asked: Address, told: Answer) -> None:
        """Believe what a server says.

        Raises:
            redis.exceptions.InvalidResponse: it makes no sense.
        """
        slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        masters: set[Address] = set()
        replicas: set[Address] = set()
        known = {one: one for one in self.servers()}  # the same object, so that tables compare in no time
        try:
            for first, last, told_master, *others in told:
                master = _address(asked, told_master)
                master = known.setdefault(master, master)
                masters.add(master)
                slots[first : last + 1] = [master] * (last + 1 - first)
                for one in others:
                    with suppress(UnknownHostError):
                        replicas.add(_address(asked, one))
        except (ValueError, TypeError, LookupError, AttributeError) as exc:
            raise rx.InvalidResponse(f"{asked} tells its slots in no known way: {exc}") from exc
        if len(slots) != REDIS_CLUSTER_HASH_SLOTS:
            raise rx.InvalidResponse(f"{asked} tells of more slots than there are")
        if self.masters and slots != self._slots:
            self.changes += 1
            if masters != self.masters:
                log.warning("broker_moved", old=_listed(self.masters), new=_listed(masters))
        self._slots, self.masters, self._replicas = slots, frozenset(masters), frozenset(replicas)
        self._is_doubtful = False


class UnknownHostError(ValueError):
    """A server of the cluster knows no name under which another one can be reached."""


def _address(asked: Address, told: Sequence[Any]) -> Address:
    """A server as one of them names it; one without a host is where we asked."""
    host, port = told[0], told[1]
    if host == b"?":
        raise UnknownHostError("a server of the cluster has no name")
    return Address(host.decode() if host else asked.host, int(port))


def _listed(servers: Iterable[Address]) -> str:
    return " ".join(sorted(map(str, servers)))
