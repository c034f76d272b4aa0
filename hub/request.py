"""A request from its admission to its end, as its hub sees it: what came, what became of its attempts, its clocks."""

import asyncio
from dataclasses import replace

import structlog

from common.errors import BrokerError, ClientGone
from common.streams.jobs import Ticket
from common.tasks import keep_trying
from common.types import Lane, NodeId, RequestStatus
from common.wire import RELEASED_BY_RESTART, EntryId, Failure, Job, ReplyEntry, Start, Usage
from hub.backstage import Backstage
from hub.errors import (
    AttemptFailed,
    BrokerAway,
    JobLost,
    ModelUnavailable,
    ProviderLost,
    QueueTimeout,
    RequestFailed,
)
from hub.relay.inbox import Inbox

log = structlog.get_logger()

CALL_OFF_TRIES_S = 30.0
NODE_GONE_S = 3.0
"""How long a node may be missing from a fresh view of the registry: a new one is not in it yet."""


class OpenRequest:
    """One client's request. Its handler calls `advance` until `is_finished`, and `close` whatever happens."""

    def __init__(self, job: Job, ticket: Ticket, ahead: int, inbox: Inbox, backstage: Backstage) -> None:
        self.job = job
        self.ahead = ahead
        """Jobs that wait before this one, as last known."""
        self.node: NodeId | None = None
        self.start: Start | None = None
        self.usage: Usage | None = None
        self.queued_ms: int | None = None
        """From admission to the first claim."""
        self.has_sent = False
        """Whether any of the answer has gone to the client: then no other attempt can begin anew."""
        self._ticket = ticket
        self._inbox = inbox
        self._stage = backstage
        self._data: list[bytes] = []
        self._failures = 0
        self._releases = 0
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
        self._opened_at = asyncio.get_running_loop().time()
        self._model_seen_at = self._opened_at
        self._node_seen_at = self._opened_at
        self._status = RequestStatus.QUEUED

    @property
    def ticket(self) -> Ticket:
        """Where its job lies, while it waits or runs."""
        return self._ticket

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
        return asyncio.get_running_loop().time() - self._opened_at

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
        self._inbox.poke()

    def miss(self, ticket: Ticket) -> None:
        """Its job is no longer where this ticket says, and was not claimed as far as is known."""
        self._missing = ticket
        self._inbox.poke()

    def end(self, error: RequestFailed) -> None:
        """End it from outside, as a stopping hub does: `advance` raises the error."""
        self._ended_by = error
        self._inbox.poke()

    async def advance(self) -> None:
        """Wait for news, or for a moment to look at the clocks; then `take` what came.

        Raises:
            RequestFailed: there will be no (whole) answer.
            ClientGone: after `abandon`.
        """
        await self._inbox.wait()
        if self._client_gone:
            raise ClientGone("the client closed the connection")
        entries = self._inbox.take()
        for entry_id, entry in entries:
            await self._apply(entry_id, entry)
        if self._inbox.was_skipped:
            await self._catch_up()
        if self.is_finished:
            return
        if self._ended_by is not None:
            raise self._ended_by
        if not entries:
            await self._look_at_clocks()

    async def close(self) -> None:
        """Leave nothing behind: the reply goes, a job that still waits is withdrawn, a node that runs it is told."""
        self._stage.reader.close(self._inbox)
        facts: dict[str, str | float] = {"ended_at": self._stage.clock.now_ms()}
        if self.usage is not None:
            facts["prompt_tokens"] = self.usage.prompt_tokens or 0
            facts["completion_tokens"] = self.usage.completion_tokens or 0
        if self.failed_with is not None:
            facts["error"] = self.failed_with.code
        self._note(self._final_status(), **facts)
        try:
            await keep_trying(self._leave_broker, BrokerError, first_s=0.1, most_s=5, limit_s=CALL_OFF_TRIES_S)
        except BrokerError as exc:  # the reply ends by its TTL, and the job with it
            log.warning("call_off_failed", request=self.job.id, error=str(exc))

    async def _leave_broker(self) -> None:
        if self.is_finished:
            await self._stage.requests.close(self.job.reply, int(self._stage.settings.reply_linger_s * 1000))
            return
        if self._is_handed_back:
            await self._stage.lanes.settle(self._ticket, self.job.id)
        node = self.node if self._is_running else None
        await self._stage.requests.call_off(self.job.id, self.job.reply, self._ticket, node)

    async def _apply(self, entry_id: EntryId, entry: ReplyEntry) -> None:
        if entry_id.attempt < self.job.attempt:
            return  # of an attempt that was given up
        if entry.claim is not None:
            self._claimed(entry.claim)
        if entry.start is not None:
            self.start = entry.start
        if entry.data:
            if self._status is not RequestStatus.STREAMING:
                self._note(RequestStatus.STREAMING, first_data_at=self._stage.clock.now_ms())
            self._data.append(entry.data)
        if entry.end is not None:
            self.usage = entry.end
        elif entry.error is not None:
            await self._attempt_failed(entry.error)
        elif entry.release is not None:
            await self._released(entry.release)

    def _claimed(self, node: NodeId) -> None:
        self.node = node
        self._is_running = True
        self._node_seen_at = asyncio.get_running_loop().time()
        if self.queued_ms is None:
            self.queued_ms = int(self.age_s * 1000)
        self._note(RequestStatus.CLAIMED, node=node, attempt=self.job.attempt, claimed_at=self._stage.clock.now_ms())
        self._stage.ledger.leave_queue(self.job.id, self._ticket.lane)

    async def _attempt_failed(self, failure: Failure) -> None:
        self._is_running, self._is_handed_back = False, failure.retryable
        error = AttemptFailed(
            failure, retry_after_s=self._stage.settings.retry_after_s if failure.status in (429, 503) else None
        )
        if not failure.retryable:
            raise error
        self._failures += 1
        await self._try_again(error)

    async def _released(self, reason: str) -> None:
        # One given back before it was claimed came to a node in the moment it closed: nobody has tried it.
        self._releases += self._is_running
        self._is_running, self._is_handed_back = False, True
        if reason == RELEASED_BY_RESTART:
            self._failures += 1
        settings = self._stage.settings
        message = f"the node that ran this request gave it back: {reason}"
        is_worn_out = self._releases >= settings.max_releases and not self.has_sent
        await self._try_again(
            ModelUnavailable(message, retry_after_s=settings.retry_after_s) if is_worn_out else ProviderLost(message)
        )

    async def _try_again(self, otherwise: RequestFailed) -> None:
        """Requeue as the next attempt where that is possible, else raise what the client is to hear."""
        settings = self._stage.settings
        if self.has_sent or self._failures >= settings.max_attempts or self._releases >= settings.max_releases:
            raise otherwise
        if self._ended_by is not None:
            raise self._ended_by
        now_ms = self._stage.clock.now_ms()
        deadline_ms = now_ms + int(settings.queue_timeout_s * 1000)
        job = replace(self.job, attempt=self.job.attempt + 1, deadline_ms=deadline_ms).signed(self._stage.signing)
        try:
            ticket = await self._stage.lanes.requeue(self._ticket, job)
        except BrokerError as exc:
            raise BrokerAway("the broker went away while this request was tried again") from exc
        if ticket is None:
            raise otherwise
        log.info("requeued", request=job.id, attempt=job.attempt, reason=otherwise.code, error=otherwise.message)
        self._stage.ledger.join_queue(job.id)
        self.job, self._ticket = job, ticket
        self.node, self.start, self._data, self._is_handed_back = None, None, [], False
        self.ahead = 0
        self._model_seen_at = asyncio.get_running_loop().time()
        self._note(RequestStatus.QUEUED, attempt=job.attempt, lane=Lane.RETRY.value)

    async def _catch_up(self) -> None:
        """Read what was left in the broker while the client was behind."""
        try:
            await self._stage.reader.resume(self._inbox)
        except BrokerError as exc:  # the reader's own look at all replies comes within the second
            log.warning("broker_unavailable", doing="resume", error=str(exc))

    async def _look_at_clocks(self) -> None:
        now, view, settings = asyncio.get_running_loop().time(), self._stage.view, self._stage.settings
        if view.age_s > settings.broker_grace_s:
            raise BrokerAway("the broker is away for too long", retry_after_s=settings.retry_after_s)
        if self._inbox.is_lost:
            raise BrokerAway("the broker lost this request", retry_after_s=settings.retry_after_s)
        if self.node is None:
            if self.job.model in view.models or not view.is_fresh:
                self._model_seen_at = now
            elif now - self._model_seen_at > settings.model_wait_s:
                raise ModelUnavailable(
                    f"no node serves the model {self.job.model!r} at present", retry_after_s=settings.retry_after_s
                )
            if self._stage.clock.now_ms() > self.job.deadline_ms:
                raise QueueTimeout(
                    f"no slot came free within {settings.queue_timeout_s:g} s", retry_after_s=settings.retry_after_s
                )
            if self._missing == self._ticket:
                await self._look_for_job()
        elif self.node in view.nodes or not view.is_fresh:
            self._node_seen_at = now
        elif now - self._node_seen_at > NODE_GONE_S:
            self._is_running, self._is_handed_back = False, True
            self._failures += 1
            await self._try_again(ProviderLost(f"the node {self.node} is gone"))

    async def _look_for_job(self) -> None:
        """A job that was run or given back has said so in its reply before it left its lane; else nobody ever will."""
        self._missing = None
        try:
            await self._stage.reader.resume(self._inbox)
            self._inbox.is_lost = not await self._stage.reader.is_kept(self._inbox)
        except BrokerError:
            return  # the next look at the queue comes soon
        if self._inbox.has_news:
            return
        if self._inbox.is_lost:
            raise BrokerAway("the broker lost this request", retry_after_s=self._stage.settings.retry_after_s)
        log.error("job_lost", request=self.job.id, hint="see ghub:dead; hubs and providers must share GHUB_SIGNING_KEY")
        raise JobLost("the job of this request was refused by a provider or lost by the broker")

    def _note(self, status: RequestStatus, **facts: str | float) -> None:
        self._status = status
        self._stage.ledger.note(self.job.id, status=status.value, **facts)

    def _final_status(self) -> RequestStatus:
        if self.is_finished:
            return RequestStatus.DONE
        if self.failed_with is None:
            return RequestStatus.CANCELLED
        return RequestStatus.EXPIRED if isinstance(self.failed_with, QueueTimeout) else RequestStatus.FAILED
