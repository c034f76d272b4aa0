"""What is written down of one request: its hash, for people to look at, and what its client key used, for good."""

from contextlib import suppress

from common.errors import BrokerError
from common.records.usage import day_of
from common.streams.jobs import Ticket
from common.types import NodeId, RequestStatus
from common.wire import Job, Usage
from hub.errors import DeadlineExceeded, QueueTimeout, RequestFailed
from hub.figures.tally import Ending
from hub.requests.backstage import Backstage
from hub.requests.clocks import RequestClocks
from hub.requests.place import Place
from hub.requests.trail import RequestTrail
from hub.requests.wishes import Wishes

CANCELLED = frozenset({"cancelled_by_operator", "cancelled_by_client"})


class RequestRecord:
    """Tells the ledger how a request stands."""

    def __init__(
        self,
        place: Place,
        wishes: Wishes,
        clocks: RequestClocks,
        backstage: Backstage,
        trail: RequestTrail | None = None,
    ) -> None:
        self._place = place
        self.wishes = wishes
        self._clocks = clocks
        self._stage = backstage
        self._trail = trail
        self._queued_at_ms = backstage.clock.now_ms()
        self._claimed_at_ms = 0
        self._first_data_at_ms = 0
        self.status = RequestStatus.QUEUED
        self.final: dict[str, str | float] = {}
        """How it ended, as its hash says it."""

    def facts(self, job: Job) -> dict[str, str | float]:
        """What is known from the beginning."""
        facts: dict[str, str | float] = {
            "model": job.model,
            "endpoint": job.endpoint,
            "hub": self._stage.hub,
            "lane": self._place.lane.value,
            "attempt": job.attempt,
            "queued_at": self._queued_at_ms,
            "reply": job.reply,
            "stream": int(job.stream),
        }
        if self._place.key is not None:
            facts["key"] = self._place.key
        if self.wishes.is_resumable:
            facts["resumable"] = 1
        if not self.wishes.may_continue:
            facts["continues"] = 0
        if self._clocks.left_s is not None:
            facts["gives_up_at"] = self._stage.clock.now_ms() + int(self._clocks.left_s * 1000)
        return facts

    def published(self, job: Job, ticket: Ticket) -> None:
        """Its job lies here."""
        self._stage.ledger.note(job.id, **self._place.shown(ticket))

    def claimed(self, job: Job, node: NodeId) -> None:
        """A node works on it."""
        now_ms = self._stage.clock.now_ms()
        self._claimed_at_ms = self._claimed_at_ms or now_ms
        self.note(job, RequestStatus.CLAIMED, node=node, attempt=job.attempt, claimed_at=now_ms)

    def streaming(self, job: Job) -> None:
        """Its answer has begun, or goes on."""
        if self.status is not RequestStatus.STREAMING:
            self._first_data_at_ms = self._first_data_at_ms or self._stage.clock.now_ms()
            self.note(job, RequestStatus.STREAMING, first_data_at=self._first_data_at_ms)
            if self._trail is not None:
                self._trail.first_data()

    def requeued(self, job: Job, ticket: Ticket) -> None:
        """Its next attempt lies here."""
        self.note(
            job, RequestStatus.QUEUED, attempt=job.attempt, lane=ticket.lane.lane.value, **self._place.shown(ticket)
        )

    def note(self, job: Job, status: RequestStatus, **facts: str | float) -> None:
        """It stands so now."""
        self.status = status
        self._stage.ledger.note(job.id, status=status.value, **facts)

    def restored(self, job: Job, ticket: Ticket | None, node: NodeId | None) -> None:
        """The broker may have lost all that was written down of it, or another hub took it for lost."""
        facts = {**self.facts(job), "error": ""}
        if ticket is not None:
            facts |= {"lane": ticket.lane.lane.value, **self._place.shown(ticket)}
        if node is not None:
            facts["node"] = node
        self._stage.ledger.hold(job.id)
        self.note(job, self.status, **facts)

    def ended(self, job: Job, usage: Usage | None, error: RequestFailed | None) -> None:
        """It is over, with an answer, an error, or neither: then its client has left."""
        now_ms = self._stage.clock.now_ms()
        facts: dict[str, str | float] = {"ended_at": now_ms}
        if usage is not None:
            facts["prompt_tokens"] = usage.prompt_tokens or 0
            facts["completion_tokens"] = usage.completion_tokens or 0
        if error is not None:
            facts["error"] = error.code
        self.note(job, _status_of(usage, error), **facts)
        self.final = {"status": self.status.value, **facts}
        ending = Ending(
            endpoint=job.endpoint,
            model=job.model,
            status=self.status,
            error=error,
            usage=usage,
            queue_s=self._since_s(self._claimed_at_ms),
            first_token_s=self._since_s(self._first_data_at_ms) if job.stream else None,
            whole_s=self._clocks.age_s,
        )
        self._stage.tally.ended(ending)

    def _since_s(self, moment_ms: int) -> float | None:
        """Seconds from the admission to a moment; None if it has not come."""
        return max(0, moment_ms - self._queued_at_ms) / 1000 if moment_ms else None

    async def count(self, job: Job, usage: Usage | None) -> None:
        """Add it to what its key used. Where two hubs looked after it, one of them does."""
        key = self._place.key
        if key is None or not self._place.may_be_published:
            return
        if self.wishes.is_resumable:
            with suppress(BrokerError):  # who cannot ask counts it
                if not await self._stage.requests.counts(job.id, self._stage.hub):
                    return
        self._stage.ledger.count(key, day_of(self._stage.clock.now_ms()), job.model, usage)


def _status_of(usage: Usage | None, error: RequestFailed | None) -> RequestStatus:
    if usage is not None:
        return RequestStatus.DONE
    if error is None or error.code in CANCELLED:
        return RequestStatus.CANCELLED
    return RequestStatus.EXPIRED if isinstance(error, QueueTimeout | DeadlineExceeded) else RequestStatus.FAILED
