"""Job lanes: publish, claim, settle, requeue, withdraw. All their keys share one Cluster slot."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import exceptions as rx

from common.broker.broker import BLOCK_MS, Broker
from common.broker.errors import broker_errors, is_nogroup, lane_errors
from common.broker.line import Answer, Argument, Command
from common.broker.scripts import Script
from common.broker.shapes import Fields, entries_of, fields_of, flat
from common.keys import GROUP
from common.streams.dead import DEAD_MAXLEN
from common.types import Lane, ModelId, NodeId, RequestId
from common.wire import Job

INDEX_TTL_MS = 86_400_000
"""A day: how long the set of lanes and the waiting indexes outlive their last use, ms."""

_AFTER_ALL = f"{2**64 - 1}-0"
"""No entry has a higher id. (The very highest stands for `>` inside the server: it would take jobs.)"""

NEAR = "near"
"""What stands for the lane in the name of a node's own one."""

_CLAIM = Script("claim_jobs")
_SETTLE = Script("settle_job")
_REQUEUE = Script("requeue_job")
_WITHDRAW = Script("withdraw_job")


class LaneName(NamedTuple):
    """A lane of a model; with `near`, those of its jobs that are set aside for a node, in that node's own lane."""

    lane: Lane
    model: ModelId
    near: NodeId | None = None

    def __str__(self) -> str:
        return f"{self.lane}:{self.model}" if self.near is None else f"{NEAR}:{self.near}"

    @property
    def before(self) -> "list[LaneName]":
        """The more urgent lanes of its model."""
        return [LaneName(lane, self.model) for lane in [*Lane][: self.lane.urgency]]

    @classmethod
    def parse(cls, name: bytes) -> "LaneName":
        """Read `<lane>:<model>`; models may contain colons."""
        lane, _, model = name.decode().partition(":")
        return cls(Lane(lane), ModelId(model))


class Ticket(NamedTuple):
    """Where a job lies: its lane and its entry there."""

    lane: LaneName
    entry: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed entry. `fields` is None if it was trimmed away under us."""

    ticket: Ticket
    fields: Fields | None


def near_lane(node: NodeId) -> LaneName:
    """A node's own lane, where jobs of all its models may lie."""
    return LaneName(Lane.INTERACTIVE, ModelId(""), node)


def lanes_of(models: Iterable[ModelId]) -> list[LaneName]:
    """Every lane of these models, in the order of claiming: by lane first, then as the models are given."""
    models = list(models)
    return [LaneName(lane, model) for lane in Lane for model in models]


class JobLanes:
    """The work queue. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._waiting = broker.blocking_line()
        self._keys = broker.keys
        self._lanes_by_key: tuple[list[LaneName], dict[bytes, LaneName]] = [], {}

    async def ensure(self, lanes: Sequence[LaneName]) -> None:
        """Make lanes and their groups where they are missing. Groups start at 0: at `$` they would skip jobs."""
        if not lanes:
            return
        pipe = self._commands.pipeline(transaction=False)
        for lane in lanes:
            pipe.xgroup_create(self._key(lane), GROUP, id="0", mkstream=True)
        pipe.sadd(self._keys.lanes, *map(str, lanes))
        pipe.pexpire(self._keys.lanes, INDEX_TTL_MS)
        with broker_errors():
            for result in await pipe.execute(raise_on_error=False):
                if isinstance(result, Exception) and not str(result).startswith("BUSYGROUP"):
                    raise result

    async def known(self) -> set[LaneName]:
        """Every lane in use, but for those that only a later version knows."""
        with broker_errors():
            names: Any = await self._commands.smembers(self._keys.lanes)
        lanes = set()
        for name in names:
            with suppress(ValueError):
                lanes.add(LaneName.parse(name))
        return lanes

    async def claim(self, node: NodeId, lanes: Sequence[LaneName], count: int) -> list[Delivery]:
        """Take up to `count` waiting jobs at once, the first lanes first.

        Raises:
            LaneMissing: one of the lanes is not there, and nothing was taken from the others.
        """
        by_key = self._by_key(lanes)
        with lane_errors():
            found = await _CLAIM.run(self._line, [*by_key], [GROUP, node, count])
        return [
            _delivery(by_key[key], entry, fields_of(flat))
            for key, entries in zip(found[::2], found[1::2], strict=True)
            for entry, flat in entries
        ]

    async def wait(
        self, node: NodeId, lanes: Sequence[LaneName], block_ms: int = BLOCK_MS, *, count: int = 1
    ) -> list[Delivery]:
        """Block until a job comes to one of the lanes or the time is up; may take up to `count` from each of them.

        Raises:
            LaneMissing: one of the lanes is not there, or no longer.
        """
        by_key = self._by_key(lanes)
        head: Command = ("XREADGROUP", "GROUP", GROUP, node, "COUNT", count, "BLOCK", block_ms, "STREAMS")
        with lane_errors():
            answer = await self._waiting.say(*head, *by_key, *(b">" for _ in by_key))
        return [
            _delivery(by_key[key], entry, fields) for key, entries in entries_of(answer) for entry, fields in entries
        ]

    async def delivered(self, node: NodeId, lanes: Sequence[LaneName]) -> AsyncIterator[Delivery]:
        """Jobs that were delivered under this node's name and not settled: running, or lost to a crash.

        Read as a group's member reads its own history, which is all that a provider's broker user may do. One job of a
        lane at a time: bodies may be long. Lanes that are not there hold nothing.
        """
        last = dict.fromkeys(lanes, b"0")
        while last:
            with broker_errors():
                found = await self._history(node, last)
            last = {delivery.ticket.lane: delivery.ticket.entry for delivery in found}
            for delivery in found:
                yield delivery

    async def _history(self, node: NodeId, after: Mapping[LaneName, bytes]) -> list[Delivery]:
        """The next delivered job of each lane: by one command where all lanes are there, as they nearly always are."""
        by_key = {self._key(lane).encode(): lane for lane in after}
        head: Command = ("XREADGROUP", "GROUP", GROUP, node, "COUNT", 1, "STREAMS")
        answers = await self._line.ask([(*head, *by_key, *after.values())])
        if isinstance(answers[0], Exception) and is_nogroup(answers[0]):
            answers = await self._line.ask([(*head, key, after[lane]) for key, lane in by_key.items()])
        found: list[Delivery] = []
        for answer in answers:
            if not isinstance(answer, Exception):
                for key, entries in entries_of(answer):
                    found += [_delivery(by_key[key], entry, fields) for entry, fields in entries]
            elif not is_nogroup(answer):
                raise answer
        return found

    async def denied(self, node: NodeId, lanes: Sequence[LaneName]) -> set[LaneName]:
        """Those of these lanes that this process' broker user may not read. Nothing is read."""
        pipe = self._commands.pipeline(transaction=False)
        for lane in lanes:
            pipe.xreadgroup(GROUP, node, {self._key(lane): _AFTER_ALL}, count=1)
        with broker_errors():
            answers = await pipe.execute(raise_on_error=False)
        return {lane for lane, one in zip(lanes, answers, strict=True) if isinstance(one, rx.NoPermissionError)}

    async def fetch(self, ticket: Ticket) -> Delivery:
        """Read a job once more, as a delivery."""
        with broker_errors():
            entries: Any = await self._commands.xrange(self._key(ticket.lane), ticket.entry, ticket.entry)
        return Delivery(ticket, entries[0][1] if entries else None)

    async def settle(self, ticket: Ticket, request: str = "") -> None:
        """Take a job off its lane that needs no more work; its request, where it is known, leaves the queue with it."""
        keys = [self._key(ticket.lane), self._keys.waiting(*ticket.lane)]
        with broker_errors():
            await _SETTLE.run(self._line, keys, [GROUP, ticket.entry, request])

    async def requeue(self, ticket: Ticket, job: Job) -> Ticket:
        """Put the next attempt of a job into the retry lane, in place of the last one if that is still in its lane.

        Only who looks after the request does this. Should two do it by mistake, the reply takes the word of one of the
        two attempts, which have the same number, and the other is dropped.
        """
        lane = LaneName(Lane.RETRY, job.model)
        keys = [self._key(ticket.lane), self._key(lane), self._keys.waiting(*lane), self._keys.lanes]
        keys += [self._keys.waiting(*ticket.lane)]
        args: list[Argument] = [GROUP, ticket.entry, job.id, INDEX_TTL_MS, str(lane), *flat(job.to_fields())]
        with broker_errors():
            return Ticket(lane, await _REQUEUE.run(self._line, keys, args))

    def withdrawing(self, ticket: Ticket, request: RequestId) -> Command:
        """The command that takes a job back if nobody has claimed it; `withdrawn` reads its answer."""
        keys = [self._key(ticket.lane), self._keys.waiting(*ticket.lane)]
        return _WITHDRAW.command(keys, [GROUP, ticket.entry, request])

    async def withdrawn(self, command: Command, answer: Answer) -> NodeId | None:
        """The node that has claimed the job, if one was faster."""
        with broker_errors():
            holder = await _WITHDRAW.mend(self._line, command, answer)
        return NodeId(holder.decode()) if holder else None

    async def withdraw(self, ticket: Ticket, request: RequestId) -> NodeId | None:
        """Take a job back; the node that has claimed it, if one was faster."""
        command = self.withdrawing(ticket, request)
        with broker_errors():
            (answer,) = await self._line.ask((command,))
        return await self.withdrawn(command, answer)

    async def bury(self, fields: Fields, reason: str) -> None:
        """Write a job to the dead letters, with the reason and without its body (that may be private).

        How long letters stay is the hubs' to say: a provider's broker user may only add one.
        """
        entry: dict[Any, Any] = {name: value for name, value in fields.items() if name not in (b"body", b"sig")}
        with broker_errors():
            await self._commands.xadd(
                self._keys.dead, entry | {b"reason": reason.encode()}, maxlen=DEAD_MAXLEN, approximate=True
            )

    def _by_key(self, lanes: Sequence[LaneName]) -> dict[bytes, LaneName]:
        """These lanes by their keys, in this order; they are the same nearly always, and may be hundreds."""
        if self._lanes_by_key[0] != lanes:
            self._lanes_by_key = [*lanes], {self._key(lane).encode(): lane for lane in lanes}
        return self._lanes_by_key[1]

    def _key(self, lane: LaneName) -> str:
        return self._keys.lane(*lane)


def _delivery(lane: LaneName, entry: bytes, fields: Fields | None) -> Delivery:
    """A delivery; a job of a node's own lane tells itself of which model it is."""
    if lane.near is not None and fields is not None:
        lane = lane._replace(model=ModelId(fields.get(b"model", b"").decode(errors="replace")))
    return Delivery(Ticket(lane, entry), fields)
