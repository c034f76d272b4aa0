"""Admits requests and publishes them as jobs; knows every request this hub holds open."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import structlog
from structlog.contextvars import bind_contextvars

from common.errors import BrokerError
from common.keys import Keys
from common.records.credentials import ClientKey
from common.records.limits import Quota
from common.streams.jobs import LaneName, Ticket
from common.tasks import wait_or_stop
from common.types import KeyId, Lane, ModelId, RequestId
from common.wire import Job
from hub.errors import RequestFailed, ShuttingDown
from hub.requests.admission import Admission, Submission, lane_of
from hub.requests.backstage import Backstage
from hub.requests.clocks import RequestClocks
from hub.requests.limits import estimated_tokens
from hub.requests.place import Place
from hub.requests.request import OpenRequest
from hub.requests.rewriting import with_model
from hub.requests.trail import RequestTrail
from hub.requests.wishes import Wishes

log = structlog.get_logger()

CALL_OFF_S = 0.5
"""For calling off the jobs that wait when the hub stops."""
LAST_WORDS_S = 2.0
"""How long a stopping hub waits for its last error events to leave, s."""


class Dispatcher:
    """From a submission to an open request, and back to nothing."""

    def __init__(self, keys: Keys, backstage: Backstage) -> None:
        self._keys = keys
        self._stage = backstage
        self._admission = Admission(backstage.settings, backstage.view)
        self._open: dict[RequestId, OpenRequest] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._closing: set[asyncio.Task[None]] = set()
        self._arriving = 0
        self._all_heard = asyncio.Event()
        self._is_leaving = False
        self._is_draining = False

    @property
    def open_count(self) -> int:
        """How many requests this hub holds open."""
        return len(self._open)

    @property
    def is_leaving(self) -> bool:
        """Whether this hub was told to stop: it should be sent no more, but takes what comes until it drains."""
        return self._is_leaving

    @property
    def is_draining(self) -> bool:
        """Whether this hub takes no new requests."""
        return self._is_draining

    @property
    def open_requests(self) -> Sequence[OpenRequest]:
        """Every request this hub holds open now."""
        return [*self._open.values()]

    def find(self, request: RequestId) -> OpenRequest | None:
        """An open request of this hub."""
        return self._open.get(request)

    def known_model(self, asked: ModelId) -> ModelId | None:
        """The name under which this hub knows a model; None for one that it does not know now."""
        view = self._stage.view
        return view.names.find(asked, view.models, view.known)

    def quota(self, key: ClientKey | None) -> Quota | None:
        """What a client key has left; None without one, and where it is not known."""
        return self._stage.turns.quota(key)

    async def submit(self, submission: Submission, request: RequestId | None = None) -> OpenRequest:
        """Admit a request, and publish it if it need not wait for its turn. `request`: its id, if it has one already.

        Raises:
            RequestFailed: it is not admitted; nothing of it is left in the broker.
        """
        settings, key = self._stage.settings, submission.caller.key
        lane = lane_of(submission)
        model = await self._admission.admit(submission, len(self._open), is_draining=self._is_draining)
        clocks = RequestClocks(settings, self._stage.view, submission.deadline_s)
        request = request or RequestId(uuid4().hex)
        bind_contextvars(request=request)  # for every line of the task that looks after it
        if submission.trail is not None:
            bind_contextvars(trace_id=submission.trail.trace_id)
        job = Job(
            id=request,
            attempt=1,
            model=model,
            endpoint=submission.endpoint,
            stream=submission.stream,
            body=submission.body if model == submission.model else with_model(submission.body, model),
            reply=self._keys.reply(self._stage.hub, request),
            deadline_ms=clocks.queue_deadline_ms(self._stage.clock.now_ms()),
            trace=submission.trace,
        )
        turn = None
        if key is not None:
            tokens = estimated_tokens(key, submission.body, settings.answer_tokens)
            turn = await self._stage.turns.reserve(key, request, LaneName(lane, model), tokens)
        inbox = self._stage.reader.open(request, job.reply, log_bytes=self._log_bytes(submission.wishes))
        inbox.is_unborn = True
        place = Place(LaneName(lane, model), inbox, turn, self._stage)
        opened = OpenRequest(job, place, inbox, self._stage, clocks, submission.wishes, submission.trail)
        try:
            if place.has_turn:
                await opened.publish()
            else:
                opened.wait_for_turn()
        except BaseException:  # a cancellation too: the job may be published all the same
            self._in_background(opened.close())
            raise
        return self._hold(opened)

    def adopt(
        self, job: Job, ticket: Ticket | None, *, wishes: Wishes, key: KeyId | None, gives_up_at_ms: int | None
    ) -> OpenRequest:
        """Look after a request of a hub that died; what has come of its answer comes again, from the beginning.

        Args:
            job: its last attempt as it was published.
            ticket: where that lies, if it is known.
            wishes: of its client.
            key: the client key it came with.
            gives_up_at_ms: its client's deadline, Unix ms on the broker's clock.
        """
        left_s = None if gives_up_at_ms is None else (gives_up_at_ms - self._stage.clock.now_ms()) / 1000
        clocks = RequestClocks(self._stage.settings, self._stage.view, left_s)
        inbox = self._stage.reader.open(job.id, job.reply, log_bytes=self._log_bytes(wishes))
        inbox.is_unread = True
        lane = ticket.lane if ticket is not None else LaneName(Lane.RETRY, job.model)
        place = Place(lane, inbox, None, self._stage, key=key)
        place.taken_over(ticket)
        log.info("request_adopted", request=job.id, model=job.model, attempt=job.attempt)
        trail = RequestTrail.adopt(self._stage.tracing, job) if self._stage.tracing.is_on else None
        return self._hold(OpenRequest(job, place, inbox, self._stage, clocks, wishes, trail))

    def _hold(self, request: OpenRequest) -> OpenRequest:
        request.is_admitted = True
        self._open[request.id] = request
        self._none_open.clear()
        return request

    def _log_bytes(self, wishes: Wishes) -> int | None:
        return self._stage.settings.max_reply_bytes if wishes.is_resumable else None

    def cut_short(self, request: OpenRequest, error: RequestFailed) -> None:
        """End a request from outside, and take it out of the broker without waiting for its handler."""
        request.end(error)
        self._in_background(_released(request))

    def close(self, request: OpenRequest) -> None:
        """Clean up behind a request in the background, whatever its end."""
        self._open.pop(request.job.id, None)
        request.closed.set()
        if not self._open:
            self._none_open.set()
        self._in_background(request.close())
        log.info(
            "request_ended",
            request=request.job.id,
            model=request.job.model,
            node=request.node,
            attempt=request.job.attempt,
            error=request.failed_with.code if request.failed_with else None,
            finished=request.is_finished,
            seconds=round(request.age_s, 3),
        )

    def leave(self) -> None:
        """Say that this hub is about to stop."""
        self._is_leaving = True

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Hold up the drain while a request is being read and admitted."""
        self._arriving += 1
        self._all_heard.clear()
        try:
            yield
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._all_heard.set()

    async def hear_all(self, limit_s: float) -> None:
        """Wait until no request is arriving, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._arriving:
                    await self._all_heard.wait()

    async def drain(self, limit_s: float) -> None:
        """Take no more; let open requests finish within the limit; end the rest with an error."""
        self._is_leaving = self._is_draining = True
        await wait_or_stop(self._none_open, limit_s)
        # Those that wait first: else a provider takes them in the moment that the running ones free its slots.
        await self._end_all([request for request in self._open.values() if request.is_waiting])
        await self.finish_closing(CALL_OFF_S)
        await self._end_all([*self._open.values()])

    async def _end_all(self, requests: Sequence[OpenRequest]) -> None:
        """End these with an error, or hand them on; return when they have been told, or time is up."""
        stopping = ShuttingDown("this hub is stopping", retry_after_s=self._stage.settings.retry_after_s)
        for request in requests:
            if request.wishes.is_resumable and request.place.may_be_published:
                request.hand_on()
            else:
                request.end(stopping)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                for request in requests:
                    await request.closed.wait()

    async def finish_closing(self, limit_s: float) -> None:
        """Wait for clean-ups that are still under way."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=limit_s)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _released(request: OpenRequest) -> None:
    with suppress(BrokerError):  # its close tries again
        await request.leave_broker()
