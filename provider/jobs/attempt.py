"""One attempt at a job: its claim, what earlier attempts have said, and the engine's answer."""

import asyncio

import structlog

from common.errors import BrokerError
from common.reasons import Reason
from common.streams.replies import ReplyStreams
from common.types import NodeId
from common.wire import Failure, Job, ReplyEntry
from provider.answers.answer import relay_answer
from provider.continuing.finding import find_seam
from provider.errors import EngineError, EngineFailed, EngineFull
from provider.jobs.looking_back import is_over, read_earlier
from provider.jobs.running_job import RunningJob, Stop
from provider.machine import Machine
from provider.protocol.engine import refusal
from provider.replies.reply import Reply, ReplyState
from provider.settings import ProviderSettings

log = structlog.get_logger()

BROKER_AWAY = "broker-away"
"""The release reason of a job of whose earlier attempts nothing could be read."""


class Attempts:
    """How an attempt runs on this machine."""

    def __init__(self, node: NodeId, settings: ProviderSettings, replies: ReplyStreams, machine: Machine) -> None:
        self._node = node
        self._settings = settings
        self._replies = replies
        self._machine = machine

    async def run(self, running: RunningJob, reply: Reply) -> ReplyEntry:
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
        engine = self._machine.engine
        if (failure := refusal(job.endpoint, engine.status)) is not None:
            return ReplyEntry(error=failure)
        await relay_answer(engine.current, job, reply, self._node, self._settings, seam, running.trail)
        return ReplyEntry()

    def _told(self, error: EngineError, job: Job) -> ReplyEntry:
        """The entry that ends an attempt on which the engine failed: given back where that is no fault of the job."""
        self._machine.engine.learn_from(error)
        if isinstance(error, EngineFailed):
            failure = error.failure
            # What an engine says of a request that is wrong may repeat it, and goes to its client alone.
            told = failure.message if failure.retryable else None
            log.warning("attempt_failed", code=failure.code, status=failure.status, error=told)
            return ReplyEntry(error=failure)
        if isinstance(error, EngineFull):
            log.warning("engine_full", error=str(error))
            self._machine.room.refuse(job.model)
            return ReplyEntry(release=Reason.GPU_MEMORY)
        log.warning("engine_down", error=str(error))
        return ReplyEntry(release=Reason.ENGINE_DOWN)
