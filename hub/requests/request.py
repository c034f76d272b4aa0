"""A request from its admission to its end, as its hub sees it: its turn, its job, what came, what became of it.

Admitted, it waits for its turn (if it comes with a client key); then its job is published and waits in a lane; then a
node claims it, once or, where an attempt fails, several times.
"""

import asyncio
from dataclasses import replace

import structlog

from common.errors import BrokerError, ClientGone
from common.streams.jobs import Ticket
from common.tasks import keep_trying
from common.types import Lane, NodeId, RequestId, RequestStatus
from common.wire import EntryId, Failure, Job, ReplyEntry, Start, Usage
from hub.errors import AttemptFailed, BrokerAway, JobLost, ModelUnavailable, ProviderLost, RequestFailed
from hub.relay.inbox import Inbox
from hub.requests.backstage import Backstage
from hub.requests.clocks import RequestClocks
from hub.requests.place import Place
from hub.requests.record import RequestRecord
from hub.requests.tries import Tries

log = structlog.get_logger()

CALL_OFF_TRIES_S = 30.0


class OpenRequest:
    """One client's request. Its handler calls `advance` until `is_finished`, and the dispatcher `close` at its end.

    Args:
        job: unsigned, with its queue deadline.
        place: where it waits.
        inbox: of the job's reply.
        clocks: how long it waits.
    """

    def __init__(self, job: Job, place: Place, inbox: Inbox, backstage: Backstage, clocks: RequestClocks) -> None:
        self.job = job
        self.place = place
        self.inbox = inbox
        """What has come and was not looked at yet."""
        self.node: NodeId | None = None
        self.start: Start | None = None
        self.usage: Usage | None = None
        self.queued_ms: int | None = None
        """From admission to the first claim."""
        self.has_sent = False
        """Whether any of the answer has gone to the client: then no other attempt can begin anew."""
        self.is_admitted = False
        """Whether its client has not been refused at once; set by the dispatcher."""
        self._stage = backstage
        self._clocks = clocks
        self._data: list[bytes] = []
        self._has_begun = False
        """Whether any of the answer has come."""
        self._tries = Tries(backstage.settings)
        self._is_running = False
        """Whether a node works on it, as far as is known."""
        self._is_handed_back = False
        """Whether the last attempt is over and its job was left for this hub to requeue or settle."""
        self._missing: Ticket | None = None
        self._client_gone = False
        self._ended_by: RequestFailed | None = None
        self.closed = asyncio.Event()
        """Set when its handler is done with it."""
        self.failed_with: RequestFailed | None = None
        """What the client was told instead of an answer; set by the handler."""
        self._record = RequestRecord(place, backstage)
        clocks.set_alarm(inbox.poke)

    @property
    def id(self) -> RequestId:
        """Its name for its whole life."""
        return self.job.id

    @property
    def is_waiting(self) -> bool:
        """Whether no node has it."""
        return self.node is None

    @property
    def is_finished(self) -> bool:
        """Whether the answer is whole."""
        return self.usage is not None

    @property
    def age_s(self) -> float:
        """Seconds since it was admitted."""
        return self._clocks.age_s

    def take(self) -> bytes:
        """What of the answer has come and was not taken yet."""
        if not self._data:
            return b""
        data = self._data[0] if len(self._data) == 1 else b"".join(self._data)
        self._data = []
        return data

    def abandon(self) -> None:
        """The client is gone: `advance` raises ClientGone."""
        self._client_gone = True
        self.inbox.poke()

    def miss(self, ticket: Ticket) -> None:
        """Its job is no longer where this ticket says, and was not claimed as far as is known."""
        self._missing = ticket
        self.inbox.poke()

    def end(self, error: RequestFailed) -> None:
        """End it from outside, as a stopping hub does: `advance` raises the error."""
        self._ended_by = error
        self.inbox.poke()

    async def advance(self) -> None:
        """Wait for news, or for a moment to look at the clocks; then `take` what came.

        Raises:
            RequestFailed: there will be no (whole) answer.
            ClientGone: after `abandon`.
        """
        await self.inbox.wait()
        if self._client_gone:
            raise ClientGone("the client closed the connection")
        if self.place.ticket is None and self._ended_by is None:
            self.place.look()
            if self.place.has_turn:
                await self.publish()
        entries = self.inbox.take()
        for entry_id, entry in entries:
            await self._apply(entry_id, entry)
        if self.inbox.was_skipped:
            await self._catch_up()
        if self.is_finished:
            return
        if self._ended_by is not None:
            raise self._ended_by
        self._clocks.check_deadline()
        if not entries:
            await self._look_at_clocks()

    async def publish(self) -> None:
        """Add its job to its lane; its turn has come. RequestFailed if that cannot be."""
        job = self.job.signed(self._stage.signing)
        await self.place.publish(job, self._record.facts(self.job))
        self.job = job

    def wait_for_turn(self) -> None:
        """Show that it waits, though there is no job of it yet."""
        self._record.note(self.job, RequestStatus.QUEUED, **self._record.facts(self.job))

    async def close(self) -> None:
        """Leave nothing behind: the reply goes, a job that still waits is withdrawn, a node that runs it is told."""
        self._stage.reader.close(self.inbox)
        self._clocks.stop()
        if self.is_admitted:
            self._record.ended(self.job, self.usage, self.failed_with)
        if self.is_finished or not self.place.may_be_published:
            self._end_turn()
        if not self.place.may_be_published:
            return
        try:
            await keep_trying(self.leave_broker, BrokerError, first_s=0.1, most_s=5, limit_s=CALL_OFF_TRIES_S)
        except BrokerError as exc:  # the reply ends by its TTL, and the job with it
            log.warning("call_off_failed", request=self.job.id, error=str(exc))
        finally:
            self._end_turn()  # only now: the next one must not run beside it

    async def leave_broker(self) -> None:
        """Take it out of the broker; may be repeated. BrokerError if that fails."""
        if self.is_finished:
            await self._stage.requests.close(self.job.reply, int(self._stage.settings.reply_linger_s * 1000))
            return
        if self._is_handed_back and self.place.ticket is not None:
            await self._stage.lanes.settle(self.place.ticket, self.job.id)
        node = self.node if self._is_running else None
        await self._stage.requests.call_off(self.job.id, self.job.reply, self.place.ticket, node)

    def _end_turn(self) -> None:
        is_free = self.queued_ms is None or (self.failed_with is not None and not self._has_begun)
        self.place.leave(self.usage, is_free=is_free)

    async def _apply(self, entry_id: EntryId, entry: ReplyEntry) -> None:
        if entry_id.attempt < self.job.attempt:
            return  # of an attempt that was given up
        if entry.claim is not None:
            self._claimed(entry.claim)
        if entry.start is not None:
            self.start = entry.start
        if entry.data:
            if self._record.status is not RequestStatus.STREAMING:
                self._record.note(self.job, RequestStatus.STREAMING, first_data_at=self._stage.clock.now_ms())
            self._data.append(entry.data)
            self._has_begun = True
        if entry.end is not None:
            self.usage = entry.end
        elif entry.error is not None:
            await self._attempt_failed(entry.error)
        elif entry.release is not None:
            await self._released(entry.release)

    def _claimed(self, node: NodeId) -> None:
        self.node = node
        self._is_running = True
        self._clocks.node_found()
        if self.queued_ms is None:
            self.queued_ms = int(self.age_s * 1000)
            self.place.claimed()
        self._record.note(
            self.job, RequestStatus.CLAIMED, node=node, attempt=self.job.attempt, claimed_at=self._stage.clock.now_ms()
        )
        if self.place.ticket is not None:
            self._stage.ledger.leave_queue(self.job.id, self.place.ticket.lane)

    async def _attempt_failed(self, failure: Failure) -> None:
        self._is_running, self._is_handed_back = False, failure.retryable
        error = AttemptFailed(
            failure, retry_after_s=self._stage.settings.retry_after_s if failure.status in (429, 503) else None
        )
        if not failure.retryable:
            raise error
        self._tries.failed(failure)
        await self._try_again(error)

    async def _released(self, reason: str) -> None:
        self._tries.released(reason, was_running=self._is_running)
        self._is_running, self._is_handed_back = False, True
        retry_after_s = self._stage.settings.retry_after_s
        message = f"the node that ran this request gave it back: {reason}"
        is_worn_out = self._tries.is_worn_out and not self.has_sent
        await self._try_again(
            ModelUnavailable(message, retry_after_s=retry_after_s) if is_worn_out else ProviderLost(message)
        )

    async def _try_again(self, otherwise: RequestFailed) -> None:
        """Requeue as the next attempt where that is possible, else raise what the client is to hear."""
        ticket = self.place.ticket
        if self._tries.is_failed and not self.has_sent:
            await self._stage.dead.bury(self.job, otherwise)
            raise otherwise
        if self.has_sent or self._tries.is_worn_out or ticket is None:
            raise otherwise
        if self._ended_by is not None:
            raise self._ended_by
        self._clocks.check_deadline()
        deadline_ms = self._clocks.queue_deadline_ms(self._stage.clock.now_ms())
        job = replace(self.job, attempt=self.job.attempt + 1, deadline_ms=deadline_ms).signed(self._stage.signing)
        try:
            ticket = await self._stage.lanes.requeue(ticket, job)
        except BrokerError as exc:
            raise BrokerAway("the broker went away while this request was tried again") from exc
        if ticket is None:
            raise otherwise
        log.info("requeued", request=job.id, attempt=job.attempt, reason=otherwise.code, error=otherwise.message)
        self._stage.ledger.join_queue(job.id)
        self.job = job
        self.place.requeued(ticket)
        self.node, self.start, self._data, self._is_handed_back = None, None, [], False
        self._clocks.model_found()
        self._record.note(self.job, RequestStatus.QUEUED, attempt=job.attempt, lane=Lane.RETRY.value)

    async def _catch_up(self) -> None:
        """Read what was left in the broker while the client was behind."""
        try:
            await self._stage.reader.resume(self.inbox)
        except BrokerError as exc:  # the reader's own look at all replies comes within the second
            log.warning("broker_unavailable", doing="resume", error=str(exc))

    async def _look_at_clocks(self) -> None:
        self._clocks.check_broker(is_lost=self.inbox.is_lost)
        if self.node is None:
            self._clocks.check_queue(self.job, self._stage.clock.now_ms())
            if self._missing is not None and self._missing == self.place.ticket:
                await self._look_for_job()
        elif self._clocks.is_node_gone(self.node):
            self._is_running, self._is_handed_back = False, True
            self._tries.failed()
            await self._try_again(ProviderLost(f"the node {self.node} is gone"))

    async def _look_for_job(self) -> None:
        """A job that was run or given back has said so in its reply before it left its lane; else nobody ever will."""
        self._missing = None
        try:
            await self._stage.reader.resume(self.inbox)
            self.inbox.is_lost = not await self._stage.reader.is_kept(self.inbox)
        except BrokerError:
            return  # the next look at the queue comes soon
        if self.inbox.has_news:
            return
        if self.inbox.is_lost:
            raise BrokerAway("the broker lost this request", retry_after_s=self._stage.settings.retry_after_s)
        log.error("job_lost", request=self.job.id, hint="see ghub:dead; hubs and providers must share GHUB_SIGNING_KEY")
        raise JobLost("the job of this request was refused by a provider or lost by the broker")
