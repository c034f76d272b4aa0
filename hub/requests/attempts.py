"""The attempts at one request: which one it is, who works on it, and the next one where it is lost."""

from dataclasses import replace

import structlog

from common.endpoints import ENDPOINTS, Capability
from common.errors import BrokerError
from common.streams.jobs import LaneName, Ticket
from common.types import Lane, NodeId
from common.wire import CANNOT_CONTINUE, LAST_WORD, EntryId, Failure, Job, ReplyEntry
from hub.errors import AttemptFailed, BrokerAway, JobLost, ModelUnavailable, ProviderLost, RequestFailed
from hub.requests.backstage import Backstage
from hub.requests.clocks import RequestClocks
from hub.requests.place import Place
from hub.requests.record import RequestRecord
from hub.requests.trail import RequestTrail
from hub.requests.tries import Tries

log = structlog.get_logger()

MOST_AHEAD = 100
"""How many attempts a reply may be ahead of what this hub knows: as many as others added that took it for dead."""
_UNKNOWN_ENTRY = b"0-1"
"""Stands for the entry of a job whose place is not known: no lane has one under it."""


class Attempts:
    """Requeues a request where that may be; where not, each method raises the RequestFailed that its client hears."""

    def __init__(
        self,
        job: Job,
        place: Place,
        clocks: RequestClocks,
        record: RequestRecord,
        backstage: Backstage,
        trail: RequestTrail | None = None,
    ) -> None:
        self.job = job
        """As it was published last."""
        self.node: NodeId | None = None
        """Who has claimed it; None while it waits."""
        self.is_running = False
        """Whether a node works on it, as far as is known."""
        self.is_handed_back = False
        """Whether the last attempt is over and its job was left for this hub to requeue or settle."""
        self._place = place
        self._clocks = clocks
        self._record = record
        self._stage = backstage
        self._trail = trail
        self._tries = Tries(backstage.settings)
        self._lost_by: RequestFailed | None = None
        """Why the last attempt came to nothing."""
        self._owed: RequestFailed | None = None
        self._owed_at_s = 0.0
        self._was_shaken = False
        self._brought_any = False
        """Whether this attempt has said a part of the answer."""

    async def publish(self) -> None:
        """Bring the first one's job to its lane; RequestFailed if that cannot be."""
        trail, job = self._trail, self.job
        if trail is not None:
            job = trail.publish(job, self._place.lane_name)
        job = job.signed(self._stage.signing)
        try:
            ticket = await self._place.publish(job, self._record.facts(job))
        except RequestFailed as exc:
            if trail is not None:
                trail.not_published(exc)
            raise
        if trail is not None:
            trail.published(ticket.entry)
        self._record.published(job, ticket)
        self.job = job

    @property
    def is_owed(self) -> bool:
        """Whether the broker has not taken the next attempt yet."""
        return self._owed is not None

    def claimed(self, node: NodeId) -> None:
        """A node has it."""
        self.node = node
        self.is_running = True
        self._stage.affinity.at(self.job.id, node)
        self._clocks.node_found(self._stage.clock.now_ms())
        self._record.claimed(self.job, node)
        if self._trail is not None:
            self._trail.claimed(node, self.job.attempt)
        if self._place.ticket is not None:
            self._stage.ledger.leave_queue(self.job.id, self._place.ticket.lane)

    async def move_on(self) -> None:
        """The node that its job was set aside for did not take it in time: now any node may."""
        ticket = self._place.ticket
        if ticket is None:
            return
        try:
            moved = await self._stage.near_lanes.move(ticket, self.job.id)
        except BrokerError as exc:  # the next look comes soon, and a hub that takes over looks, too
            log.warning("broker_unavailable", doing="move_on", request=self.job.id, error=str(exc))
            return
        self._place.passed_by(moved)
        if moved is not None:
            self._stage.affinity.nowhere(self.job.id)
            self._record.published(self.job, moved)

    def heard(self, entry_id: EntryId, entry: ReplyEntry) -> None:
        """An entry came; see whether it is of a later attempt than this hub knows.

        So it is where another hub took this one for dead, and requeued the request or ended it.
        """
        if entry_id == LAST_WORD and entry.error is not None:
            return
        if entry_id.attempt > self.job.attempt + MOST_AHEAD:
            raise ProviderLost("a provider answered as an attempt that there never was")
        if entry_id.attempt > self.job.attempt:
            self.job = replace(self.job, attempt=entry_id.attempt)
            self._owed = None
        if entry.data:
            self._was_shaken = False  # whatever the broker lost, the answer goes on
            self._brought_any |= entry_id.attempt == self.job.attempt

    def flows_on(self) -> None:
        """More data came of this attempt, as before."""
        self._was_shaken = False

    def shaken(self) -> None:
        """The broker may have lost the job: nobody is blamed for what happens to it until it is well again."""
        self._was_shaken = True
        if self._place.may_be_published:
            self._record.restored(self.job, self._place.ticket, self.node)
        self._clocks.node_found(self._stage.clock.now_ms())

    async def failed(self, failure: Failure, *, has_begun: bool) -> None:
        """An attempt failed in a provider's words."""
        self.is_running, self.is_handed_back = False, failure.retryable
        retry_after_s = self._stage.settings.retry_after_s if failure.status in (429, 503) else None
        error: RequestFailed = AttemptFailed(failure, retry_after_s=retry_after_s)
        if failure.code == CANNOT_CONTINUE and self._lost_by is not None:
            error = self.lost_in_vain(error) if not failure.retryable else self._lost_by
        if not failure.retryable:
            raise error
        self._tries.failed(failure, brought_any=self._brought_any)
        await self._try_again(error, has_begun=has_begun)

    async def released(self, reason: str, *, has_begun: bool) -> None:
        """A node gave it back."""
        self._tries.released(reason, was_running=self.is_running)
        self.is_running, self.is_handed_back = False, True
        message = f"the node that ran this request gave it back: {reason}"
        if self._tries.is_worn_out and not has_begun:
            raise ModelUnavailable(message, retry_after_s=self._stage.settings.retry_after_s)
        await self._try_again(ProviderLost(message), has_begun=has_begun)

    async def node_gone(self, *, has_begun: bool) -> None:
        """The node that has it is in the registry no more."""
        self.is_running, self.is_handed_back = False, True
        if not self._was_shaken:
            self._tries.failed(brought_any=self._brought_any)
        await self._try_again(ProviderLost(f"the node {self.node} is gone"), has_begun=has_begun)

    async def forgotten(self, *, has_begun: bool) -> None:
        """The node that had it lives, and does not run it."""
        self.is_running, self.is_handed_back = False, True
        if not self._was_shaken:
            self._tries.forgotten()
        await self._try_again(ProviderLost(f"the node {self.node} no longer runs this request"), has_begun=has_begun)

    async def broken(self, *, has_begun: bool) -> None:
        """Some of its words were lost, so that its further ones don't count."""
        self._tries.forgotten()
        await self._try_again(ProviderLost("parts of the answer were lost"), has_begun=has_begun)

    async def job_lost(self, *, has_begun: bool) -> None:
        """Its job is nowhere, and nobody has claimed it: the broker lost it, or a provider refused it."""
        error = JobLost("the job of this request was refused by a provider or lost by the broker")
        if self._was_shaken:
            await self._try_again(error, has_begun=has_begun)
            return
        log.error("job_lost", request=self.job.id, hint="see ghub:dead; hubs and providers must share GHUB_SIGNING_KEY")
        raise error

    def lost_in_vain(self, error: RequestFailed) -> RequestFailed:
        """The error for a client that has heard a part of its answer: what ended that, and why it cannot go on."""
        lost = self._lost_by
        if lost is None:
            return error
        return AttemptFailed(replace(lost.as_failure(), message=f"{lost.message}; {error.message}"))

    async def requeue(self) -> None:
        """Publish the next attempt; if the broker is away that stays owed, for as long as a broker may be away."""
        if self._owed is None:
            return
        settings, reason = self._stage.settings, self._owed
        deadline_ms = self._clocks.queue_deadline_ms(self._stage.clock.now_ms())
        job = replace(self.job, attempt=self.job.attempt + 1, deadline_ms=deadline_ms)
        if self._trail is not None:
            job = self._trail.publish(job, LaneName(Lane.RETRY, job.model))
        job = job.signed(self._stage.signing)
        ticket = self._place.ticket or Ticket(LaneName(Lane.RETRY, job.model), _UNKNOWN_ENTRY)
        try:
            ticket = await self._stage.lanes.requeue(ticket, job)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="requeue", request=job.id, error=str(exc))
            if self._clocks.age_s - self._owed_at_s > settings.broker_grace_s:
                raise BrokerAway("the broker went away while this request was tried again") from exc
            return
        if self._trail is not None:
            self._trail.published(ticket.entry, reason)
        log.info("requeued", request=job.id, attempt=job.attempt, reason=reason.code, error=reason.message)
        self._stage.ledger.join_queue(job.id)
        self._stage.affinity.nowhere(job.id)
        self._stage.tally.requeued(reason)
        self.job = job
        self.node, self.is_running, self.is_handed_back = None, False, False
        self._owed, self._was_shaken, self._brought_any = None, False, False
        self._place.requeued(ticket)
        self._clocks.model_found()
        self._record.requeued(job, ticket)

    async def _try_again(self, otherwise: RequestFailed, *, has_begun: bool) -> None:
        """Requeue as the next attempt where that may be, else raise what the client is to hear."""
        if not self.job.body:  # taken over from a hub that died when the broker had forgotten it
            raise otherwise
        if self._tries.is_failed:
            await self._stage.dead.bury(self.job, otherwise)
            raise otherwise
        if self._tries.is_worn_out or (has_begun and not self._record.wishes.may_continue):
            raise otherwise
        self._clocks.check_deadline()
        self._lost_by = otherwise
        if has_begun and not self._may_be_continued():
            raise otherwise
        self._owed, self._owed_at_s = otherwise, self._clocks.age_s
        await self.requeue()

    def _may_be_continued(self) -> bool:
        """Whether some node can go on with an answer that has begun, or none says that it cannot."""
        known = ENDPOINTS.get(self.job.endpoint)
        if known is None or not known.is_continuable:
            return False
        needed = Capability.PREFILL if known.needs is Capability.CHAT else None
        told = [node.engine.get("capabilities") for node in self._stage.view.models.get(self.job.model, ())]
        return needed is None or not told or any(not isinstance(can, list) or needed in can for can in told)
