"""Requests: publish one in a round trip, keep its hash true, call it off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError

from common.broker import Broker, broker_errors
from common.keys import GROUP
from common.streams.control import ControlStreams
from common.streams.jobs import INDEX_TTL_MS, JobLanes, LaneName, Ticket, flat
from common.streams.replies import ReplyStreams
from common.streams.scripts import Argument, Script
from common.types import HubId, Lane, NodeId, Order, RequestId, RequestStatus
from common.wire import LAST_WORD, ControlEntry, Failure, Job, ReplyEntry

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
        self._open = broker.keys.open_requests(hub)
        self._ttls = ttls
        self._replies = ReplyStreams(broker)
        self._lanes = JobLanes(broker)
        self._control = ControlStreams(broker)

    async def publish(self, job: Job, lane: Lane, facts: Facts, *, max_waiting: int) -> Published | QueueFull:
        """Write the request's hash, open its reply and add the job to its lane, in one round trip and that order.

        Its hub's name for it comes first of all: whoever looks after a dead hub's requests finds it by that. May be
        repeated where the answer was lost.
        """
        keys = self._broker.keys
        name = LaneName(lane, job.model)
        script_keys = [
            keys.lane(*name),
            keys.waiting(*name),
            keys.lanes,
            *(keys.lane(one, job.model) for one in Lane),
        ]
        args: list[Argument] = [GROUP, max_waiting, job.id, INDEX_TTL_MS, str(name), *flat(job.to_fields())]
        pipe = self._broker.commands.pipeline(transaction=False)
        pipe.sadd(self._open, job.id)
        pipe.pexpire(self._open, OPEN_TTL_MS)
        pipe.hset(keys.request(job.id), mapping={**facts, "status": RequestStatus.QUEUED.value})
        pipe.pexpire(keys.request(job.id), self._ttls.request_ms)
        self._replies.queue_open(pipe, job.reply, self._ttls.reply_ms)
        _PUBLISH.queue(pipe, script_keys, args)
        with broker_errors():
            results = await pipe.execute(raise_on_error=False)
            for result in results[:-1]:  # a reply that is there was opened before, or says already how it ends
                if isinstance(result, Exception) and "equal or smaller" not in str(result):
                    raise result
            if isinstance(results[-1], NoScriptError):
                entry, count = await _PUBLISH.run(self._broker.commands, script_keys, args)
            elif isinstance(results[-1], Exception):
                raise results[-1]
            else:
                entry, count = results[-1]
            if not entry:
                await self._broker.commands.delete(keys.request(job.id))
                await self._broker.commands.delete(job.reply)
                await self._broker.commands.srem(self._open, job.id)
                return QueueFull(count)
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
        pipe = self._broker.commands.pipeline(transaction=False)
        if held:
            pipe.sadd(self._open, *held)
            pipe.pexpire(self._open, OPEN_TTL_MS)
        if over:
            pipe.srem(self._open, *over)
        for request, facts in changes.items():
            pipe.hset(self._broker.keys.request(request), mapping={**facts})
            pipe.pexpire(self._broker.keys.request(request), self._ttls.request_ms)
        for request, lane in claimed.items():
            pipe.zrem(self._broker.keys.waiting(*lane), request)
        with broker_errors():
            await pipe.execute()

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
            await self._broker.commands.pexpire(reply, linger_ms)

    async def say_last_word(self, reply: str, failure: Failure, keep_ms: int) -> None:
        """End a reply with an error that stays for a while; no attempt can say anything after it. May be repeated."""
        fields = flat(ReplyEntry(error=failure).to_fields())
        pipe = self._broker.commands.pipeline(transaction=False)
        pipe.execute_command("XADD", reply, "NOMKSTREAM", str(LAST_WORD), *fields)
        pipe.pexpire(reply, keep_ms)
        with broker_errors():
            said, kept = await pipe.execute(raise_on_error=False)
            for answer in (said, kept):
                if isinstance(answer, Exception) and "equal or smaller" not in str(answer):
                    raise answer

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
        pipe = self._broker.commands.pipeline(transaction=False)
        if reply is not None:
            pipe.delete(reply)
        if node is not None:
            self._control.queue_order(pipe, node, ControlEntry(Order.CANCEL, request))
        if ticket is not None:
            self._lanes.queue_withdraw(pipe, ticket, request)
        with broker_errors():
            results = await pipe.execute(raise_on_error=False)
            holder: NodeId | None = None
            if ticket is not None:
                answer = results.pop()
                if isinstance(answer, NoScriptError):
                    holder = await self._lanes.withdraw(ticket, request)
                elif isinstance(answer, Exception):
                    raise answer
                elif answer:
                    holder = NodeId(answer.decode())
            if failed := next((one for one in results if isinstance(one, Exception)), None):
                raise failed
        if holder is not None and holder != node:
            await self._control.send(holder, ControlEntry(Order.CANCEL, request))
