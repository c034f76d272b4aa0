"""Where a request stands before a node has it: its turn among those of its key, then its job's place in a lane."""

import structlog

from common.credentials import ClientKey
from common.errors import BrokerError
from common.limits import UNKNOWN_TOKENS, Quota
from common.streams.jobs import LaneName, Ticket
from common.streams.requests import Facts
from common.streams.requests import QueueFull as LaneFull
from common.types import KeyId, Lane
from common.wire import Job, Usage
from hub.errors import BrokerAway, QueueFull
from hub.relay.inbox import Inbox
from hub.requests.backstage import Backstage
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

    def taken_over(self, ticket: Ticket | None) -> None:
        """Another hub has published its job, which lies here as far as is known."""
        self.ticket, self.may_be_published = ticket, True

    def requeued(self, ticket: Ticket) -> None:
        """Its next attempt waits first in line."""
        self.ticket = ticket
        self.move(0)

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
        settings = self._stage.settings
        self.may_be_published = True
        try:
            published = await self._stage.requests.publish(job, self._lane.lane, facts, max_waiting=settings.max_queue)
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
        return published.ticket

    def claimed(self) -> None:
        """A node has it: another one of its key may be published."""
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
