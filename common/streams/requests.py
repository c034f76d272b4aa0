"""Requests: publish one in a round trip, keep its hash true, call it off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors, is_behind, raise_first
from common.broker.line import Argument, Command
from common.broker.scripts import Script
from common.broker.shapes import flat
from common.keys import GROUP
from common.orders import ControlEntry, Order
from common.streams.control import ControlStreams
from common.streams.jobs import INDEX_TTL_MS, JobLanes, LaneName, Ticket, near_lane
from common.streams.replies import ReplyStreams
from common.types import HubId, Lane, NodeId, RequestId, RequestStatus
from common.wire import LAST_WORD, Failure, Job, ReplyEntry

_PUBLISH = Script("publish_job")

OPEN_TTL_MS = 3_600_000
"""How long the list of what a hub looks after outlives it: long enough for another one to come, ms."""

Facts = Mapping[Any, str | int | float]
"""Fields of a request's hash."""


@dataclass(frozen=True, slots=True)
class Published:
    """A job in its lane, and how many jobs wait before it."""

    ticket: Ticket
    ahead: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """A node that a job is meant for, and how many jobs may wait in that node's own lane with it."""

    node: NodeId
    room: int


@dataclass(frozen=True, slots=True)
class QueueFull:
    """The model's queue takes no more."""

    waiting: int


@dataclass(frozen=True, slots=True)
class RequestTtls:
    """How long a request's keys live without being renewed, ms."""

    request_ms: int
    reply_ms: int


class Requests:
    """Requests as the broker keeps them. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker, ttls: RequestTtls, hub: HubId) -> None:
        self._broker = broker
        self._line = broker.line
        self._open = broker.keys.open_requests(hub)
        self._ttls = ttls
        self._replies = ReplyStreams(broker)
        self._lanes = JobLanes(broker)
        self._control = ControlStreams(broker)

    async def publish(
        self, job: Job, lane: Lane, facts: Facts, *, max_waiting: int, near: SetAside | None = None
    ) -> Published | QueueFull:
        """Write the request's hash, open its reply and add the job to its lane, in one round trip and that order.

        In a cluster the job goes in a round trip of its own: a provider that has it must find the reply.

        Its hub's name for it comes first of all: whoever looks after a dead hub's requests finds it by that. May be
        repeated where the answer was lost.

        A job that is meant for a node joins that node's own lane, unless others wait for the model whom it would
        overtake; the hash says `near` from the first.
        """
        keys = self._broker.keys
        name = LaneName(lane, job.model)
        script_keys = [
            keys.lane(*name),
            keys.waiting(*name),
            keys.lanes,
            *(keys.lane(one, job.model) for one in Lane),
        ]
        room = 0
        if near is not None:
            script_keys.append(keys.lane(*near_lane(near.node)))
            room, facts = near.room, {**facts, "near": near.node}
        args: list[Argument] = [GROUP, max_waiting, job.id, INDEX_TTL_MS, str(name), room, *flat(job.to_fields())]
        publish = _PUBLISH.command(script_keys, args)
        first: list[Command] = [
            ("SADD", self._open, job.id),
            ("PEXPIRE", self._open, OPEN_TTL_MS),
            _hset(keys.request(job.id), {**facts, "status": RequestStatus.QUEUED.value}),
            ("PEXPIRE", keys.request(job.id), self._ttls.request_ms),
            *self._replies.opening(job.reply, self._ttls.reply_ms),
        ]
        with broker_errors():
            *before, answer = await self._line.ask_in_turn(first, [publish])
            raise_first([one for one in before if not is_behind(one)])
            entry, count, is_near = await _PUBLISH.mend(self._line, publish, answer)
            if not entry:
                raise_first(
                    await self._line.ask(
                        [("DEL", keys.request(job.id)), ("DEL", job.reply), ("SREM", self._open, job.id)]
                    )
                )
                return QueueFull(count)
        if near is not None and is_near:
            name = name._replace(near=near.node)
        return Published(Ticket(name, entry), count)

    async def keep_open(self) -> None:
        """Renew the list of what this hub looks after."""
        with broker_errors():
            await self._broker.commands.pexpire(self._open, OPEN_TTL_MS)

    async def update(
        self,
        changes: Mapping[RequestId, Facts],
        claimed: Mapping[RequestId, LaneName],
        *,
        held: Sequence[RequestId] = (),
        over: Sequence[RequestId] = (),
    ) -> None:
        """Write what changed in these requests, and take those that were claimed out of the waiting index.

        Args:
            changes: new values of fields.
            claimed: where those waited.
            held: those whose names are to stand in this hub's list anew.
            over: those that need nobody to look after them any more.
        """
        keys = self._broker.keys
        commands: list[Command] = []
        if held:
            commands += [("SADD", self._open, *held), ("PEXPIRE", self._open, OPEN_TTL_MS)]
        if over:
            commands.append(("SREM", self._open, *over))
        for request, facts in changes.items():
            key = keys.request(request)
            commands += [_hset(key, facts), ("PEXPIRE", key, self._ttls.request_ms)]
        waiting: dict[LaneName, list[RequestId]] = {}
        for request, lane in claimed.items():
            waiting.setdefault(lane, []).append(request)
        commands += [("ZREM", keys.waiting(*lane), *some) for lane, some in waiting.items()]
        with broker_errors():
            raise_first(await self._line.ask(commands) if commands else [])

    async def counts(self, request: RequestId, hub: HubId) -> bool:
        """Whether this hub is the one that counts what a request used: the first that asks. May be repeated."""
        key = self._broker.keys.request(request)
        pipe = self._broker.commands.pipeline(transaction=False)
        pipe.hsetnx(key, "counted_by", hub)
        pipe.hget(key, "counted_by")
        pipe.pexpire(key, self._ttls.request_ms)
        with broker_errors():
            _, counted_by, _ = await pipe.execute()
        return bool(counted_by == hub.encode())

    async def close(self, reply: str, linger_ms: int) -> None:
        """Let a reply that has been read to its end go, a little later so that people can look at it."""
        with broker_errors():
            await self._line.say("PEXPIRE", reply, linger_ms)

    async def say_last_word(self, reply: str, failure: Failure, keep_ms: int) -> None:
        """End a reply with an error that stays for a while; no attempt can say anything after it. May be repeated."""
        fields = flat(ReplyEntry(error=failure).to_fields())
        said: Command = ("XADD", reply, "NOMKSTREAM", str(LAST_WORD), *fields)
        with broker_errors():
            answers = await self._line.ask([said, ("PEXPIRE", reply, keep_ms)])
            raise_first([answer for answer in answers if not is_behind(answer)])

    async def held_bytes(self, replies: Sequence[tuple[str, int]]) -> list[int]:
        """How much memory the broker holds for each of these replies.

        Where it does not tell: its entries, times what one is likely to hold (given beside each reply).
        """
        commands = self._broker.commands
        pipe = commands.pipeline(transaction=False)
        for reply, _ in replies:
            pipe.execute_command("MEMORY", "USAGE", reply)
            pipe.xlen(reply)
        with broker_errors():
            answers = await pipe.execute(raise_on_error=False)
            if failed := next((one for one in answers[1::2] if isinstance(one, Exception)), None):
                raise failed
        return [
            length * entry_bytes if isinstance(told, Exception) else int(told or 0)
            for (_, entry_bytes), told, length in zip(replies, answers[::2], answers[1::2], strict=True)
        ]

    async def call_off(self, request: RequestId, reply: str | None, ticket: Ticket | None, node: NodeId | None) -> None:
        """End a request nobody waits for: its reply goes, its job goes if unclaimed, else its node is told.

        Without `reply` that stays, and has been told its last word.
        Without `ticket` the job is known to be off its lane; without `node` the hub knows of no claim. A node may have
        claimed it all the same, its entry still on the way to the hub: the lane tells which, and it is told too.
        May be repeated.
        """
        commands: list[Command] = []
        if reply is not None:
            commands.append(("DEL", reply))
        if node is not None:
            commands += self._control.ordering(node, ControlEntry(Order.CANCEL, request))
        if ticket is not None:
            commands.append(self._lanes.withdrawing(ticket, request))
        if not commands:
            return
        holder: NodeId | None = None
        with broker_errors():
            answers = await self._line.ask(commands)
            if ticket is not None:
                holder = await self._lanes.withdrawn(commands[-1], answers.pop())
            raise_first(answers)
        if holder is not None and holder != node:
            await self._control.send(holder, ControlEntry(Order.CANCEL, request))


def _hset(key: str, facts: Facts) -> Command:
    return ("HSET", key, *(part for pair in facts.items() for part in pair))
