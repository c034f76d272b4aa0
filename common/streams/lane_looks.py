"""Looks at job lanes for what nobody will ever deal with: jobs of nodes that are gone, jobs that nobody waits for.

Whatever can be read is told, and what cannot is passed over: not only hubs write here.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors, is_passing
from common.broker.scripts import Script
from common.errors import BrokerRefused
from common.keys import GROUP
from common.streams.jobs import LaneName, Ticket
from common.types import ModelId, NodeId, RequestId
from common.wire import EntryId

_PEEK = Script("peek_jobs")
_DROP_CONSUMER = Script("drop_consumer")


@dataclass(frozen=True, slots=True)
class LaneStanding:
    """A lane: how many jobs wait and are claimed, and the newest entry that was ever claimed."""

    lane: LaneName
    waiting: int
    claimed: int
    newest_claimed: bytes


@dataclass(frozen=True, slots=True)
class JobGlimpse:
    """A job without its body, as far as it can be read; attempt and deadline (Unix ms) are None where they cannot."""

    ticket: Ticket
    request: RequestId
    attempt: int | None
    reply: str
    deadline_ms: int | None


@dataclass(frozen=True, slots=True)
class Consumer:
    """A node as a lane knows it: how many jobs of the lane it holds, and since when it has not asked for one, ms."""

    node: NodeId
    claimed: int
    idle_ms: int


class Unreadable:
    """What stands where a reply should be, and is none."""


UNREADABLE = Unreadable()


class LaneLooks:
    """What the reaper reads of lanes. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._keys = broker.keys

    async def standings(self, lanes: Sequence[LaneName]) -> list[LaneStanding]:
        """How these lanes stand; those that are missing or no lanes are left out."""
        pipe = self._commands.pipeline(transaction=False)
        for lane in lanes:
            pipe.xlen(self._keys.lane(*lane))
            pipe.xinfo_groups(self._keys.lane(*lane))
        with broker_errors():
            answers = await pipe.execute(raise_on_error=False)
        found = []
        for lane, length, groups in zip(lanes, answers[::2], answers[1::2], strict=True):
            if _is_unreadable(length) or _is_unreadable(groups):
                continue
            for group in groups:
                if group["name"] == GROUP.encode():
                    claimed = int(group["pending"])
                    waiting = max(0, int(length) - claimed)
                    found.append(LaneStanding(lane, waiting, claimed, group["last-delivered-id"]))
        return found

    async def consumers(self, lane: LaneName) -> list[Consumer]:
        """Every node that ever asked this lane for jobs and was not forgotten."""
        with broker_errors():
            told: Any = await self._commands.xinfo_consumers(self._keys.lane(*lane), GROUP)
        return [
            Consumer(NodeId(one["name"].decode(errors="replace")), int(one["pending"]), int(one["idle"]))
            for one in told
        ]

    async def forget_consumer(self, lane: LaneName, node: NodeId) -> bool:
        """Forget a node that holds no job of this lane; whether that is so."""
        with broker_errors():
            return bool(await _DROP_CONSUMER.run(self._line, [self._keys.lane(*lane)], [GROUP, node]))

    async def holders(self, lane: LaneName) -> list[NodeId]:
        """The nodes that hold jobs of this lane."""
        with broker_errors():
            told: Any = await self._commands.xpending(self._keys.lane(*lane), GROUP)
        return [NodeId(one["name"].decode(errors="replace")) for one in told["consumers"]]

    async def claimed_by(self, lane: LaneName, node: NodeId, idle_ms: int, most: int) -> list[Ticket]:
        """Jobs that this node claimed at least so long ago and that were not settled."""
        with broker_errors():
            found: Any = await self._commands.xpending_range(
                self._keys.lane(*lane), GROUP, min="-", max="+", count=most, consumername=node, idle=idle_ms
            )
        return [Ticket(lane, one["message_id"]) for one in found]

    async def glimpse(self, ticket: Ticket) -> JobGlimpse | None:
        """One job; None if it is no longer in its lane."""
        found = await self._peek(ticket.lane, ticket.entry.decode(), ticket.entry.decode(), 1)
        return found[0] if found else None

    async def unsettled(self, tickets: Mapping[RequestId, Ticket]) -> list[RequestId]:
        """Those of these requests whose jobs are still where their tickets say."""
        lie_there = await asyncio.gather(*map(self._lies_there, tickets, tickets.values()))
        return [request for request, is_so in zip(tickets, lie_there, strict=True) if is_so]

    async def behind(self, lane: LaneName, entry: bytes, most: int) -> list[JobGlimpse]:
        """The jobs of a lane behind an entry, in their order."""
        return await self._peek(lane, f"({entry.decode()}", "+", most)

    async def newest_entries(self, replies: Sequence[str]) -> list[EntryId | Unreadable | None]:
        """Id of the newest entry of each of these replies; None for those that are gone."""
        pipe = self._commands.pipeline(transaction=False)
        for reply in replies:
            pipe.xrevrange(reply, count=1)
        with broker_errors():
            answers = await pipe.execute(raise_on_error=False)
        return [UNREADABLE if _is_unreadable(one) else EntryId.parse(one[0][0]) if one else None for one in answers]

    async def _lies_there(self, request: RequestId, ticket: Ticket) -> bool:
        try:
            job = await self.glimpse(ticket)
        except BrokerRefused:  # the key of this lane is something else than was thought
            return False
        return job is not None and job.request == request  # else another one got the place of a job that was forgotten

    async def _peek(self, lane: LaneName, first: str, last: str, most: int) -> list[JobGlimpse]:
        with broker_errors():
            found: Any = await _PEEK.run(self._line, [self._keys.lane(*lane)], [first, last, most])
        return [_glimpse(lane, one) for one in found]


def _glimpse(lane: LaneName, parts: Iterable[bytes]) -> JobGlimpse:
    entry, request, attempt, reply, deadline, model = parts
    if lane.near is not None:  # jobs of all its node's models lie there
        lane = lane._replace(model=ModelId(model.decode(errors="replace")))
    return JobGlimpse(
        Ticket(lane, entry),
        RequestId(request.decode(errors="replace")),
        _number(attempt),
        reply.decode(errors="replace"),
        _number(deadline),
    )


def _number(raw: bytes) -> int | None:
    return int(raw) if raw.isdigit() and len(raw) < 20 else None  # longer ones are nobody's time or count


def _is_unreadable(answer: object) -> bool:
    """Whether the broker refused this one question: the key is missing, or something else than was thought."""
    if isinstance(answer, Exception) and is_passing(answer):
        with broker_errors():
            raise answer
    return isinstance(answer, Exception)
