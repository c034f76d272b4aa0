"""Queues as people and clients see them: how many jobs wait in each lane, and who is before whom."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from common.broker.broker import Broker
from common.broker.errors import broker_errors, is_nogroup
from common.keys import GROUP
from common.streams.jobs import LaneName
from common.types import RequestId

MANY_OF_A_LANE = 20
"""Where so many requests are asked for, their whole lane's index is read at once instead of each one's rank."""


class LaneLoad(NamedTuple):
    """How many jobs of a lane wait and how many are claimed."""

    waiting: int
    running: int


class Queues:
    """Asks how lanes stand. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._keys = broker.keys

    async def places(self, tickets: Sequence[tuple[RequestId, LaneName]]) -> list[int | None]:
        """How many requests wait before each of these, in its own lane and the more urgent ones of its model.

        None for one that does not wait, as far as the index knows: its job may be claimed, refused or lost.
        """
        lanes = Counter(name for _, name in tickets)
        crowded = [name for name, count in lanes.items() if count >= MANY_OF_A_LANE]
        before = {urgent for name in lanes for urgent in name.before}
        alone = [ticket for ticket in tickets if lanes[ticket[1]] < MANY_OF_A_LANE]
        pipe = self._commands.pipeline(transaction=False)
        for name in crowded:
            pipe.zrange(self._keys.waiting(*name), 0, -1)
        for name in before:
            pipe.zcard(self._keys.waiting(*name))
        for request, name in alone:
            pipe.zrank(self._keys.waiting(*name), request)
        with broker_errors():
            answers = iter(await pipe.execute())
        ranks: dict[tuple[RequestId, LaneName], int | None] = {}
        for name in crowded:
            ranks |= {(RequestId(one.decode(errors="replace")), name): rank for rank, one in enumerate(next(answers))}
        held = {name: next(answers) for name in before}
        ranks |= {ticket: next(answers) for ticket in alone}
        places: list[int | None] = []
        for ticket in tickets:
            rank, name = ranks.get(ticket), ticket[1]
            places.append(None if rank is None else rank + sum(held[urgent] for urgent in name.before))
        return places

    async def loads(self, lanes: Sequence[LaneName]) -> dict[LaneName, LaneLoad]:
        """Waiting and claimed jobs of each lane."""
        pipe = self._commands.pipeline(transaction=False)
        for lane in lanes:
            pipe.xlen(self._keys.lane(*lane))
            pipe.xpending(self._keys.lane(*lane), GROUP)
        with broker_errors():
            answers = await pipe.execute(raise_on_error=False)
        loads = {}
        for lane, length, pending in zip(lanes, answers[::2], answers[1::2], strict=True):
            with broker_errors():
                if isinstance(length, Exception):
                    raise length
                if isinstance(pending, Exception) and not is_nogroup(pending):
                    raise pending
            running = 0 if isinstance(pending, Exception) else int(pending["pending"])
            loads[lane] = LaneLoad(max(0, length - running), running)
        return loads
