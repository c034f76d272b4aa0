"""Runs claimed jobs, one task each and never more than there are slots."""

import asyncio
from collections import OrderedDict
from enum import StrEnum
from functools import partial

import structlog

from common.clock import BrokerClock
from common.errors import BrokerError, SignatureError, WireError
from common.keys import Keys
from common.signing import SigningKeys
from common.streams.jobs import Delivery, JobLanes, Ticket
from common.streams.replies import ReplyStreams
from common.tasks import keep_trying
from common.types import NodeId, RequestId
from common.wire import EntryId, Failure, Job, ReplyEntry
from provider.answer import relay_answer
from provider.engines.watch import EngineWatch
from provider.errors import EngineDown, EngineFailed
from provider.gate.gate import Reason
from provider.settings import ProviderSettings
from provider.writer import Reply, ReplyState, ReplyWriter

log = structlog.get_logger()

ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/completions"})
"""The only paths that a job can reach on an engine: nothing that pulls, deletes or configures."""
REMEMBERED_CANCELS = 1000
SETTLE_TRIES_S = 10.0
LOOK_AT_REPLIES_S = 2.0


class Stop(StrEnum):
    """Why a running job is stopped from outside."""

    OVER = "over"
    """Its request ended, or another attempt has it."""
    CANCELLED = "cancelled"
    """A hub ordered it."""
    RELEASED = "released"
    """This provider gives it back."""


class RunningJob:
    """A job in a slot."""

    def __init__(self, job: Job, ticket: Ticket) -> None:
        self.job = job
        self.ticket = ticket
        self.stop_reason: Stop | None = None
        self.release_reason = ""
        self.task: asyncio.Task[None] | None = None
        self._has_begun = False

    def begin(self) -> bool:
        """Its task takes its first step; False if it was stopped before."""
        self._has_begun = True
        return self.stop_reason is None

    def stop(self, why: Stop, release_reason: str = "") -> None:
        """Stop it, once; its engine connection closes with it.

        A task that is cancelled before its first step never runs, not even its `finally`: one that has not begun looks
        at the reason itself.
        """
        if self.stop_reason is None:
            self.stop_reason = why
            self.release_reason = release_reason
            if self.task is not None and self._has_begun:
                self.task.cancel()

    def last_words(self) -> ReplyEntry:
        """What its reply is to hear once it was stopped."""
        return ReplyEntry(release=self.release_reason) if self.stop_reason is Stop.RELEASED else ReplyEntry()


class Runner:
    """The slots and what runs in them."""

    def __init__(
        self,
        *,
        node: NodeId,
        settings: ProviderSettings,
        keys: Keys,
        signing: SigningKeys,
        clock: BrokerClock,
        lanes: JobLanes,
        replies: ReplyStreams,
        writer: ReplyWriter,
        engine: EngineWatch,
    ) -> None:
        self._node = node
        self._settings = settings
        self._keys = keys
        self._signing = signing
        self._clock = clock
        self._lanes = lanes
        self._replies = replies
        self._writer = writer
        self._engine = engine
        self._running: dict[Ticket, RunningJob] = {}
        self._cancelled: OrderedDict[RequestId, None] = OrderedDict()
        self.changed = asyncio.Event()
        """Set whenever a slot is taken or freed."""

    @property
    def free_slots(self) -> int:
        """How many more jobs may run."""
        return max(0, self._engine.slots - len(self._running))

    @property
    def requests(self) -> tuple[RequestId, ...]:
        """The requests that run now."""
        return tuple(running.job.id for running in self._running.values())

    def has(self, ticket: Ticket) -> bool:
        """Whether this very job runs here."""
        return ticket in self._running

    def cancel(self, request: RequestId) -> None:
        """A hub says that nobody waits for this request; it may still be on its way here."""
        self._cancelled[request] = None
        if len(self._cancelled) > REMEMBERED_CANCELS:
            self._cancelled.popitem(last=False)
        for running in self._running.values():
            if running.job.id == request:
                running.stop(Stop.CANCELLED)

    async def follow_replies(self) -> None:
        """Stop jobs that nobody waits for, until cancelled.

        A job that writes learns it from the broker's answer. One that says nothing yet would not: its hub died, or was
        cut off and gave it to another node.
        """
        while True:
            await asyncio.sleep(LOOK_AT_REPLIES_S)
            looked_at = [*self._running.values()]
            try:
                wanted = await self._replies.wanted([(one.job.reply, one.job.attempt) for one in looked_at])
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="follow_replies", error=str(exc))
                continue
            for running, is_wanted in zip(looked_at, wanted, strict=True):
                if not is_wanted:
                    running.stop(Stop.OVER)

    async def accept(self, delivery: Delivery) -> None:
        """Start a delivered job in a free slot, or drop it if it must not run."""
        job = await self.verified(delivery)
        if job is None:
            return
        if job.id in self._cancelled or job.deadline_ms < self._clock.now_ms():
            log.info("job_skipped", request=job.id, reason="cancelled" if job.id in self._cancelled else "expired")
            await self.settle(delivery.ticket, job.id)
            return
        running = RunningJob(job, delivery.ticket)
        self._running[delivery.ticket] = running
        running.task = asyncio.create_task(self._run(running), name=f"job-{job.id}")
        self.changed.set()

    async def give_back(self, delivery: Delivery, reason: str, after: EntryId | None = None) -> None:
        """Return a job that does not run here; its hub requeues it at once. `after`: the reply's newest entry."""
        job = await self.verified(delivery)
        if job is None:
            return
        reply = self._open_reply(job, None)
        if after is not None:
            reply.continue_after(after)
        reply.put(ReplyEntry(release=reason))
        if await reply.flushed() is not ReplyState.OPEN:
            await self.settle(delivery.ticket, job.id)
        log.info("job_released", request=job.id, attempt=job.attempt, reason=reason)

    async def drain(self, limit_s: float) -> None:
        """Wait for the running jobs, then give back those that are not done."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=limit_s)
        for running in [*self._running.values()]:
            running.stop(Stop.RELEASED, Reason.DRAINING)
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.broker_grace_s)

    async def settle(self, ticket: Ticket, request: str = "") -> None:
        """Take a job off its lane, trying for a while; what fails is found again among this node's pending jobs."""
        settle = partial(self._lanes.settle, ticket, request)
        try:
            await keep_trying(settle, BrokerError, first_s=0.05, most_s=1, limit_s=SETTLE_TRIES_S)
        except BrokerError as exc:
            log.warning("settle_failed", lane=str(ticket.lane), entry=ticket.entry.decode(), error=str(exc))

    async def verified(self, delivery: Delivery) -> Job | None:
        """The job, if a hub that we trust has published it for this lane; otherwise it is taken off the lane."""
        if delivery.fields is None:
            await self.settle(delivery.ticket)
            return None
        try:
            job = Job.from_fields(delivery.fields)
            job.verify(self._signing)
            if job.model != delivery.ticket.lane.model:
                raise SignatureError(f"a job for {job.model!r} in the lane {delivery.ticket.lane}")
            self._keys.doorbell_of(job.reply)
        except (WireError, SignatureError, ValueError) as exc:
            await self._refuse(delivery, str(exc))
            return None
        return job

    async def _refuse(self, delivery: Delivery, reason: str) -> None:
        """Bury a job that nobody we trust has published."""
        fields = delivery.fields or {}
        log.error("job_refused", lane=str(delivery.ticket.lane), entry=delivery.ticket.entry.decode(), reason=reason)
        try:
            await self._lanes.bury(fields, reason)
        except BrokerError as exc:
            log.warning("bury_failed", error=str(exc))
        await self.settle(delivery.ticket, fields.get(b"id", b"").decode(errors="replace"))

    def _open_reply(self, job: Job, running: RunningJob | None) -> Reply:
        def over(state: ReplyState) -> None:
            log.info("reply_over", request=job.id, attempt=job.attempt, state=state.value)
            if running is not None:
                running.stop(Stop.OVER)

        return self._writer.open(job, self._keys.doorbell_of(job.reply), over)

    async def _run(self, running: RunningJob) -> None:
        job = running.job
        with structlog.contextvars.bound_contextvars(request=job.id, attempt=job.attempt, model=job.model):
            try:
                await self._run_in_slot(running)
            finally:
                self._running.pop(running.ticket, None)
                self.changed.set()

    async def _run_in_slot(self, running: RunningJob) -> None:
        reply = self._open_reply(running.job, running)
        log.info("job_claimed", bytes=len(running.job.body))
        last = await self._attempt(running, reply) if running.begin() else running.last_words()
        # The last write is not to be cut short: whoever stops the job again finds it already stopping.
        running.stop_reason = running.stop_reason or Stop.OVER
        if last != ReplyEntry():
            reply.put(last)
        state = await reply.flushed()
        to_run_again = last.release is not None or (last.error is not None and last.error.retryable)
        if state is not ReplyState.OPEN or not to_run_again:
            await self.settle(running.ticket, running.job.id)  # else whoever requeues it takes it off the lane
        log.info("job_ended", outcome=_outcome(last), reply=state.value)

    async def _attempt(self, running: RunningJob, reply: Reply) -> ReplyEntry:
        """Claim the reply and run the job; the entry that ends this attempt (an empty one if all is said)."""
        job = running.job
        try:
            reply.put(ReplyEntry(claim=self._node))
            if await reply.flushed() is not ReplyState.OPEN:
                return ReplyEntry()
            if job.endpoint not in ENDPOINTS:
                failure = Failure(404, "endpoint_not_allowed", f"no engine serves {job.endpoint[:100]} here")
                return ReplyEntry(error=failure)
            await relay_answer(self._engine.current, job, reply, self._node, self._settings)
        except asyncio.CancelledError:
            if running.stop_reason is None:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # this is a task
            return running.last_words()
        except EngineDown as exc:
            log.warning("engine_down", error=str(exc))
            self._engine.suspect()
            return ReplyEntry(release=Reason.ENGINE_DOWN)
        except EngineFailed as exc:
            log.warning("attempt_failed", code=exc.failure.code, error=exc.failure.message)
            return ReplyEntry(error=exc.failure)
        except Exception:
            log.exception("job_crashed")
            return ReplyEntry(error=Failure(500, "provider_error", "the provider failed on this job", retryable=True))
        return ReplyEntry()


def _outcome(last: ReplyEntry) -> str:
    if last.error is not None:
        return last.error.code
    return "released" if last.release is not None else "done"
