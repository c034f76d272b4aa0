"""Runs claimed jobs, one task each and never more than there are slots."""

import asyncio
import time
from collections import OrderedDict

import structlog

from common.broker.clock import BrokerClock
from common.reasons import Reason
from common.streams.jobs import Delivery, Ticket
from common.types import RequestId
from common.wire import EntryId, Job, ReplyEntry
from provider.jobs.attempt import Attempts
from provider.jobs.deliveries import Deliveries
from provider.jobs.running_job import RunningJob, Stop
from provider.machine import Machine
from provider.replies.reply import Reply, ReplyState
from provider.replies.writer import ReplyWriter
from provider.telemetry.outcomes import Outcomes
from provider.telemetry.trail import BROKEN, Trails, log_fields

log = structlog.get_logger()

REMEMBERED_CANCELS = 1000
RELEASED = "released"
"""The outcome of a job that was given back."""
HUB_TIME_S = 10.0
"""What a hub gets to requeue a job that was given back, before this node takes care of it once more."""


class Runner:
    """The jobs that run, and those that were given back a moment ago."""

    def __init__(
        self,
        machine: Machine,
        deliveries: Deliveries,
        writer: ReplyWriter,
        attempts: Attempts,
        clock: BrokerClock,
        trails: Trails,
    ) -> None:
        self._machine = machine
        self._deliveries = deliveries
        self._writer = writer
        self._attempts = attempts
        self._clock = clock
        self._trails = trails
        self._running: dict[Ticket, RunningJob] = {}
        self._cancelled: OrderedDict[RequestId, None] = OrderedDict()
        self._given_back: dict[Ticket, tuple[float, RequestId]] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self.outcomes = Outcomes()
        """How many jobs ended how, since the start."""

    @property
    def running(self) -> list[RunningJob]:
        """Those that run now."""
        return [*self._running.values()]

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

    async def start(self, delivery: Delivery) -> None:
        """Run it, or give it back if the gate closed or the slots filled while it was on its way."""
        if (reason := self._machine.refusal(delivery.ticket.lane.model)) is not None:
            await self.give_back(delivery, reason)
        else:
            await self.accept(delivery)

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
        self._machine.slots.take()
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

    async def drain(self, limit_s: float, grace_s: float) -> None:
        """Wait for the running jobs, then give back those that are not done, which a broker may hold up for a while."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=limit_s)
        self.release_all(Reason.DRAINING)
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)

    def _remember_given_back(self, ticket: Ticket, request: RequestId) -> None:
        now = time.monotonic()
        self._given_back = {one: left for one, left in self._given_back.items() if now - left[0] < HUB_TIME_S}
        self._given_back[ticket] = now, request

    def _open_reply(self, job: Job, running: RunningJob | None) -> Reply:
        def over(state: ReplyState) -> None:
            log.info("reply_over", request=job.id, attempt=job.attempt, state=state.value)
            if running is not None:
                running.stop(Stop.OVER)

        return self._writer.open(job, self._deliveries.doorbell_of(job), over)

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
                self._machine.slots.give_back()

    async def _run_in_slot(self, running: RunningJob) -> None:
        reply = running.reply = self._open_reply(running.job, running)
        try:
            await self._speak(running, reply)
        finally:
            reply.close()

    async def _speak(self, running: RunningJob, reply: Reply) -> None:
        log.info("job_claimed", bytes=len(running.job.body))
        last = await self._attempts.run(running, reply) if running.begin() else running.last_words()
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


def _outcome(last: ReplyEntry, stopped_by: Stop | None) -> str:
    if last.error is not None:
        return last.error.code
    if last.release is not None:
        return RELEASED
    return "done" if stopped_by is None else stopped_by.value
