"""Where a request stands before a node has it: its turn among those of its key, then its job's place in a lane."""

import asyncio
import math

import structlog

from common.errors import BrokerError
from common.records.credentials import ClientKey
from common.records.limits import UNKNOWN_TOKENS, Quota
from common.streams.jobs import LaneName, Ticket
from common.streams.requests import Facts
from common.streams.requests import QueueFull as LaneFull
from common.types import KeyId, Lane, NodeId
from common.wire import Job, Usage
from hub.affinity.affinity import Near, Outcome
from hub.errors import BrokerAway, QueueFull
from hub.relay.inbox import Inbox
from hub.requests.backstage import Backstage
from hub.requests.clocks import ALARM_SPARE_S
from hub.requests.turns import Turn

log = structlog.get_logger()


class Place:
    """One request's place.

    Args:
        lane: where its job is to be published.
        inbox: of its reply; woken when its turn comes.
        turn: None without a client key: such a request waits for nobody.
        key: of one without a turn whose key another hub has looked at.
    """

    def __init__(
        self, lane: LaneName, inbox: Inbox, turn: Turn | None, backstage: Backstage, *, key: KeyId | None = None
    ) -> None:
        self._lane = lane
        self._inbox = inbox
        self._turn = turn
        self._stage = backstage
        self._key = key
        self._ahead = 0
        self._near: Near | None = None
        self._has_chosen = self._has_near = False
        self._near_until_s = 0.0
        self.ticket: Ticket | None = None
        """Where its job lies; None before it is published."""
        self.may_be_published = False
        """Whether the broker may have its job: asked to take it, it has not said no."""
        self.wait_s: float | None = None
        """How long it is likely to wait still, as this hub has seen its queue move; None if nobody knows."""
        if turn is not None:
            turn.wake = inbox.poke

    @property
    def lane_name(self) -> LaneName:
        """The lane it was admitted to, of its model."""
        return self._lane

    @property
    def lane(self) -> Lane:
        """The lane it was admitted to."""
        return self._lane.lane

    @property
    def client_key(self) -> ClientKey | None:
        """Whose request it is; None without a client key."""
        return None if self._turn is None else self._turn.key

    @property
    def key(self) -> KeyId | None:
        """The name for machines of the client key that it came with; None without one."""
        return self._key if self._turn is None else self._turn.key.id

    @property
    def quota(self) -> Quota | None:
        """What its client key has left."""
        return None if self._turn is None else self._stage.turns.quota(self._turn.key)

    @property
    def has_turn(self) -> bool:
        """Whether its job may be published."""
        return self._turn is None or self._turn.has_come

    @property
    def ahead(self) -> int:
        """Jobs that wait before it, as last known; while it waits for its turn, those of its own key."""
        return self._ahead if self._turn is None or self.ticket is not None else self._turn.ahead

    def move(self, ahead: int, wait_s: float | None = None) -> None:
        """So many jobs wait before it now."""
        self._ahead, self.wait_s = ahead, wait_s

    def shown(self, ticket: Ticket) -> dict[str, str]:
        """Where its job lies, as its hash says it; of a node's own lane only if it was ever meant for one."""
        entry = {"entry": ticket.entry.decode()}
        return entry | {"near": ticket.lane.near or ""} if self._has_near else entry

    @property
    def is_overdue(self) -> bool:
        """Whether its job lies in the lane of a node for which it has waited long enough."""
        is_aside = self.ticket is not None and self.ticket.lane.near is not None
        return is_aside and asyncio.get_running_loop().time() >= self._near_until_s

    def taken_over(self, ticket: Ticket | None) -> None:
        """Another hub has published its job, which lies here as far as is known."""
        self.ticket, self.may_be_published = ticket, True
        self._has_near = ticket is not None and ticket.lane.near is not None

    def requeued(self, ticket: Ticket) -> None:
        """Its next attempt waits first in line."""
        self.ticket = ticket
        self.move(0)

    def passed_by(self, ticket: Ticket | None) -> None:
        """Its node did not take its job, which now lies here; None: it did, after all, and its claim is on the way."""
        self._near_until_s = math.inf
        if ticket is not None:
            self.ticket = ticket
            self._came_of(Outcome.MOVED)
            if self._near is not None:
                self._stage.affinity.late(self._near.node)

    def _came_of(self, outcome: Outcome) -> None:
        if self._near is not None:
            self._stage.affinity.came_of(self._near.kind, outcome)

    def look(self) -> None:
        """Ask for its turn, if the doorbell said that it has come."""
        if self._turn is not None and self._inbox.was_rung:
            self._inbox.was_rung = False
            self._stage.turns.look(self._turn)

    async def publish(self, job: Job, facts: Facts) -> Ticket:
        """Add its job to its lane; where it lies there.

        Raises:
            QueueFull: the lane takes no more.
            BrokerAway: it does not answer.
        """
        settings, requests, affinity = self._stage.settings, self._stage.requests, self._stage.affinity
        if not self._has_chosen:  # once: where an answer was lost, its job may lie where it was meant to
            self._near, self._has_chosen = await affinity.choose(job, self._lane.lane, self.key), True
            self._has_near = self._near is not None
        near = None if self._near is None else self._near.aside
        self.may_be_published = True
        try:
            published = await requests.publish(job, self._lane.lane, facts, max_waiting=settings.max_queue, near=near)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="publish", request=job.id, error=str(exc))
            raise BrokerAway("the broker does not answer", retry_after_s=settings.retry_after_s) from exc
        if isinstance(published, LaneFull):
            self.may_be_published = False
            raise QueueFull(
                f"{published.waiting} requests for {job.model!r} are waiting already",
                retry_after_s=settings.retry_after_s,
            )
        self.ticket = published.ticket
        self.move(published.ahead)
        self._inbox.is_unborn = False
        self._set_aside(job, published.ticket.lane.near)
        return published.ticket

    def _set_aside(self, job: Job, node: NodeId | None) -> None:
        if node is None:
            self._came_of(Outcome.MISSED)
            return
        wait_s, loop = self._stage.settings.affinity_wait_ms / 1000, asyncio.get_running_loop()
        self._near_until_s = loop.time() + wait_s
        loop.call_later(wait_s + ALARM_SPARE_S, self._inbox.poke)
        self._stage.affinity.at(job.id, node)

    def claimed(self) -> None:
        """A node has it: another one of its key may be published."""
        if self.ticket is not None and self.ticket.lane.near is not None:
            self._came_of(Outcome.HIT)
        if self._turn is not None:
            self._stage.turns.claimed(self._turn)

    def leave(self, usage: Usage | None, *, is_free: bool) -> None:
        """Its turn is over; may be said twice.

        Args:
            usage: what its engine counted.
            is_free: without that, whether it surely used nothing.
        """
        if self._turn is None:
            return
        tokens = 0 if is_free else UNKNOWN_TOKENS
        if usage is not None and (usage.prompt_tokens, usage.completion_tokens) != (None, None):
            tokens = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        self._stage.turns.end(self._turn, tokens)
