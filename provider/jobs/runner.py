"""Runs claimed jobs, one task each and never more than there are slots."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

from common.broker.clock import BrokerClock
from common.errors import BrokerError
from common.keys import Keys
from common.reasons import Reason
from common.streams.jobs import Delivery, Ticket
from common.streams.replies import ReplyStreams, Written
from common.telemetry.port import NO_TRACING, Tracing
from common.types import ModelId, NodeId, RequestId
from common.wire import EntryId, Failure, Job, ReplyEntry
from provider.answers.answer import relay_answer
from provider.continuing.finding import find_seam
from provider.engines.watch import EngineWatch
from provider.errors import EngineError, EngineFailed, EngineFull
from provider.jobs.deliveries import Deliveries
from provider.jobs.looking_back import is_over, read_earlier
from provider.jobs.running_job import RunningJob, Stop
from provider.protocol.engine import refusal
from provider.replies.reply import Reply, ReplyState
from provider.replies.writer import ReplyWriter
from provider.settings import ProviderSettings
from provider.slots import Slots
from provider.telemetry.outcomes import Outcomes
from provider.telemetry.trail import BROKEN, Trails, log_fields

log = structlog.get_logger()

REMEMBERED_CANCELS = 1000
LOOK_AT_REPLIES_S = 2.0
RELEASED = "released"
"""The outcome of a job that was given back."""
BROKER_AWAY = "broker-away"
"""The release reason of a job of whose earlier attempts nothing could be read."""
HUB_TIME_S = 10.0
"""What a hub gets to requeue a job that was given back, before this node takes care of it once more."""


class Runner:
    """The jobs that run. `on_full` is called with a model for which the engine had no memory."""

    def __init__(
        self,
        *,
        node: NodeId,
        settings: ProviderSettings,
        keys: Keys,
        clock: BrokerClock,
        deliveries: Deliveries,
        replies: ReplyStreams,
        writer: ReplyWriter,
        engine: EngineWatch,
        slots: Slots,
        on_full: Callable[[ModelId], None],
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._node = node
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._deliveries = deliveries
        self._replies = replies
        self._writer = writer
        self._engine = engine
        self._slots = slots
        self._on_full = on_full
        self._trails = Trails(tracing, node, engine, tells_content=settings.traces_content)
        self._running: dict[Ticket, RunningJob] = {}
        self._cancelled: OrderedDict[RequestId, None] = OrderedDict()
        self._given_back: dict[Ticket, tuple[float, RequestId]] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self.outcomes = Outcomes()
        """How many jobs ended how, since the start."""

    def progress(self, now_ms: int) -> tuple[dict[str, str | int], ...]:
        """The requests that run now, and how far each is; `now_ms` on the broker's clock."""
        return tuple(running.progress(now_ms) for running in self._running.values())

    def has(self, ticket: Ticket) -> bool:
        """Whether this very job runs here, or was given back a moment ago and its hub has yet to take it off."""
        given_back = self._given_back.get(ticket)
        return ticket in self._running or (given_back is not None and time.monotonic() - given_back[0] < HUB_TIME_S)

    def cancel(self, request: RequestId) -> None:
        """A hub says that nobody waits for this request; it may be on its way here, or just given back."""
        self._cancelled[request] = None
        if len(self._cancelled) > REMEMBERED_CANCELS:
            self._cancelled.popitem(last=False)
        for running in self._running.values():
            if running.job.id == request:
                running.stop(Stop.CANCELLED)
                if running.reply is not None:
                    running.reply.drop()  # it may be waiting for a broker that is away
        for ticket, (_, given_back) in self._given_back.items():
            if given_back == request:
                task = asyncio.create_task(self._deliveries.settle(ticket, request))
                self._settling.add(task)
                task.add_done_callback(self._settling.discard)

    async def follow_replies(self) -> None:
        """Stop jobs that nobody waits for, until cancelled.

        A job that writes learns it from the broker's answer. One that says nothing yet would not: its hub died, or was
        cut off and gave it to another node. A reply that is missing may be one that the broker has just forgotten: the
        writer knows whether that is to be waited for.
        """
        while True:
            await asyncio.sleep(LOOK_AT_REPLIES_S)
            looked_at = [*self._running.values()]
            try:
                fates = await self._replies.fates([(one.job.reply, one.job.attempt) for one in looked_at])
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="follow_replies", error=str(exc))
                continue
            for running, fate in zip(looked_at, fates, strict=True):
                if fate is Written.FENCED:
                    running.stop(Stop.OVER)
                elif fate is Written.GONE and running.reply is not None:
                    running.reply.miss()

    async def accept(self, delivery: Delivery) -> None:
        """Start a delivered job in a free slot, or drop it if it must not run."""
        job = await self._deliveries.verified(delivery)
        if job is None:
            return
        # A later attempt may be of a hub that others took for dead and that is back: the reply decides, not the order.
        is_cancelled = job.attempt == 1 and job.id in self._cancelled
        if is_cancelled or job.deadline_ms < self._clock.now_ms():
            reason = "cancelled" if is_cancelled else "expired"
            log.info("job_skipped", request=job.id, attempt=job.attempt, reason=reason)
            await self._deliveries.settle(delivery.ticket, job.id)
            if (trail := self._trails.attempt(job, delivery.ticket)) is not None:
                trail.ended(reason)
            return
        running = RunningJob(job, delivery.ticket, self._trails.attempt(job, delivery.ticket))
        self._running[delivery.ticket] = running
        self._slots.take()
        running.task = asyncio.create_task(self._run(running), name=f"job-{job.id}")

    async def give_back(self, delivery: Delivery, reason: str, after: EntryId | None = None) -> None:
        """Return a job that does not run here; its hub requeues it at once. `after`: the reply's newest entry."""
        job = await self._deliveries.verified(delivery)
        if job is None:
            return
        reply = self._open_reply(job, None)
        if after is not None:
            reply.continue_after(after)
        self._remember_given_back(delivery.ticket, job.id)
        reply.put(ReplyEntry(release=reason))
        try:
            if await reply.flushed() is not ReplyState.OPEN:
                await self._deliveries.settle(delivery.ticket, job.id)
        finally:
            reply.close()
            if (trail := self._trails.attempt(job, delivery.ticket)) is not None:
                trail.ended(RELEASED, {"ghub.release.reason": reason})
        log.info("job_released", request=job.id, attempt=job.attempt, reason=reason, **log_fields(trail))

    def release_all(self, reason: Reason) -> int:
        """Give every running job back, now; how many were not on their way back already."""
        running_on = [one for one in self._running.values() if one.stop_reason is None]
        for running in running_on:
            running.stop(Stop.RELEASED, reason)
        return len(running_on)

    async def drain(self, limit_s: float) -> None:
        """Wait for the running jobs, then give back those that are not done."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=limit_s)
        self.release_all(Reason.DRAINING)
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.broker_grace_s)

    def _remember_given_back(self, ticket: Ticket, request: RequestId) -> None:
        now = time.monotonic()
        self._given_back = {one: left for one, left in self._given_back.items() if now - left[0] < HUB_TIME_S}
        self._given_back[ticket] = now, request

    def _open_reply(self, job: Job, running: RunningJob | None) -> Reply:
        def over(state: ReplyState) -> None:
            log.info("reply_over", request=job.id, attempt=job.attempt, state=state.value)
            if running is not None:
                running.stop(Stop.OVER)

        return self._writer.open(job, self._keys.doorbell_of(job.reply), over)

    async def _run(self, running: RunningJob) -> None:
        job, trail = running.job, running.trail
        about = {"request": job.id, "attempt": job.attempt, "model": job.model, **log_fields(trail)}
        with structlog.contextvars.bound_contextvars(**about):
            try:
                await self._run_in_slot(running)
            finally:
                if trail is not None:
                    trail.ended(BROKEN)  # unless how it ended was told before
                self._running.pop(running.ticket, None)
                self._slots.give_back()

    async def _run_in_slot(self, running: RunningJob) -> None:
        reply = running.reply = self._open_reply(running.job, running)
        try:
            await self._speak(running, reply)
        finally:
            reply.close()

    async def _speak(self, running: RunningJob, reply: Reply) -> None:
        log.info("job_claimed", bytes=len(running.job.body))
        last = await self._attempt(running, reply) if running.begin() else running.last_words()
        stopped_by = running.stop_reason
        # The last write is not to be cut short: whoever stops the job again finds it already stopping.
        running.stop_reason = running.stop_reason or Stop.OVER
        if last != ReplyEntry():
            self._remember_given_back(running.ticket, running.job.id)
            reply.put(last)
        state = await reply.flushed()
        to_run_again = last.release is not None or (last.error is not None and last.error.retryable)
        if state is not ReplyState.OPEN or not to_run_again:
            # else whoever requeues it takes it off the lane
            await self._deliveries.settle(running.ticket, running.job.id)
        outcome = _outcome(last, stopped_by)
        self.outcomes.note(outcome)
        log.info("job_ended", outcome=outcome, reply=state.value)
        if running.trail is not None:
            about = {} if last.release is None else {"ghub.release.reason": last.release}
            running.trail.ended(outcome, {"ghub.reply": state.value, **about})

    async def _attempt(self, running: RunningJob, reply: Reply) -> ReplyEntry:
        """Run the job; the entry that ends this attempt (an empty one if all is said)."""
        job = running.job
        try:
            return await self._answer(running, reply)
        except asyncio.CancelledError:
            if running.stop_reason is None or running.task is None:
                raise
            running.task.uncancel()
            return running.last_words()
        except EngineError as exc:
            return self._told(exc, job)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="look_back", error=str(exc))
            return ReplyEntry(release=BROKER_AWAY)
        except Exception:  # a fault that one job brings out must not end the others
            log.exception("job_crashed")
            return ReplyEntry(error=Failure(500, "provider_error", "the provider failed on this job", retryable=True))

    async def _answer(self, running: RunningJob, reply: Reply) -> ReplyEntry:
        """Claim the reply, look at what earlier attempts said, and relay the engine's answer.

        Returns what is still to be said.
        """
        job, seam = running.job, None
        reply.put(ReplyEntry(claim=self._node))
        if await reply.flushed() is not ReplyState.OPEN:
            return ReplyEntry()
        if job.attempt > 1:  # the claim fences them: nothing comes behind what is read now
            earlier = await read_earlier(self._replies, reply, self._node, self._settings.broker_grace_s)
            reply.remember(earlier)
            if is_over(earlier):
                running.stop_reason = running.stop_reason or Stop.OVER
                return ReplyEntry()
            seam = find_seam(job, self._node, earlier)
        if (failure := refusal(job.endpoint, self._engine.status)) is not None:
            return ReplyEntry(error=failure)
        await relay_answer(self._engine.current, job, reply, self._node, self._settings, seam, running.trail)
        return ReplyEntry()

    def _told(self, error: EngineError, job: Job) -> ReplyEntry:
        """The entry that ends an attempt on which the engine failed: given back where that is no fault of the job."""
        self._engine.learn_from(error)
        if isinstance(error, EngineFailed):
            failure = error.failure
            # What an engine says of a request that is wrong may repeat it, and goes to its client alone.
            told = failure.message if failure.retryable else None
            log.warning("attempt_failed", code=failure.code, status=failure.status, error=told)
            return ReplyEntry(error=error.failure)
        if isinstance(error, EngineFull):
            log.warning("engine_full", error=str(error))
            self._on_full(job.model)
            return ReplyEntry(release=Reason.GPU_MEMORY)
        log.warning("engine_down", error=str(error))
        return ReplyEntry(release=Reason.ENGINE_DOWN)


def _outcome(last: ReplyEntry, stopped_by: Stop | None) -> str:
    if last.error is not None:
        return last.error.code
    if last.release is not None:
        return RELEASED
    return "done" if stopped_by is None else stopped_by.value
