"""Admits requests and publishes them as jobs; knows every request this hub holds open."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import structlog

from common.errors import BrokerError
from common.keys import Keys
from common.streams.requests import QueueFull as LaneFull
from common.tasks import keep_trying, wait_or_stop
from common.types import HubId, Lane, ModelId, RequestId
from common.wire import Job
from hub.backstage import Backstage
from hub.errors import BrokerAway, HubFull, ModelNotFound, QueueFull, ShuttingDown
from hub.gatekeeper import ANYONE, Caller
from hub.request import OpenRequest

log = structlog.get_logger()

PLACES_S = 2.0
SILENT_S = 5.0
"""A broker that has not told who is there for so long is not asked to take a request, s."""
UNDO_TRIES_S = 10.0
CALL_OFF_S = 0.5
"""For calling off the jobs that wait when the hub stops."""
LAST_WORDS_S = 2.0
"""How long a stopping hub waits for its last error events to leave, s."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asked for: the path an engine is to be asked under, and the body as it came."""

    endpoint: str
    """One of `common.endpoints.ENDPOINTS`."""
    model: ModelId
    """As the client wrote it."""
    body: bytes
    stream: bool
    caller: Caller = ANYONE
    lane: Lane | None = None
    """The lane it asked for; None: that of its key."""
    deadline_s: float | None = None
    """How long it waits for the whole answer, s; None: for ever."""
    trace: str = ""


class Dispatcher:
    """From a submission to an open request, and back to nothing."""

    def __init__(self, hub: HubId, keys: Keys, backstage: Backstage) -> None:
        self._hub = hub
        self._keys = keys
        self._stage = backstage
        self._open: dict[RequestId, OpenRequest] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_draining = False

    @property
    def open_count(self) -> int:
        """How many requests this hub holds open."""
        return len(self._open)

    @property
    def is_draining(self) -> bool:
        """Whether this hub takes no new requests."""
        return self._is_draining

    async def submit(self, submission: Submission) -> OpenRequest:
        """Admit and publish a request.

        Raises:
            RequestFailed: it is not admitted; nothing of it is left in the broker.
        """
        settings, clock = self._stage.settings, self._stage.clock
        lane = submission.lane or (Lane.INTERACTIVE if submission.caller.key is None else submission.caller.key.lane)
        model = await self._admit(submission.model)
        submission.caller.check_model(model)
        request = RequestId(uuid4().hex)
        reply = self._keys.reply(self._hub, request)
        now_ms = clock.now_ms()
        job = Job(
            id=request,
            attempt=1,
            model=model,
            endpoint=submission.endpoint,
            stream=submission.stream,
            body=submission.body,
            reply=reply,
            deadline_ms=now_ms + int(settings.queue_timeout_s * 1000),
            trace=submission.trace,
        ).signed(self._stage.signing)
        facts = {
            "model": model,
            "endpoint": submission.endpoint,
            "hub": self._hub,
            "lane": lane.value,
            "attempt": 1,
            "queued_at": now_ms,
        }
        inbox = self._stage.reader.open(request, reply)
        inbox.is_unborn = True
        try:
            published = await self._stage.requests.publish(job, lane, facts, max_waiting=settings.max_queue)
        except BaseException as exc:  # a cancellation too: the job may be published all the same
            self._stage.reader.close(inbox)
            self._in_background(self._undo(request, reply))
            if not isinstance(exc, BrokerError):
                raise
            log.warning("broker_unavailable", doing="publish", error=str(exc))
            raise BrokerAway("the broker does not answer", retry_after_s=settings.retry_after_s) from exc
        if isinstance(published, LaneFull):
            self._stage.reader.close(inbox)
            raise QueueFull(
                f"{published.waiting} requests for {model!r} are waiting already",
                retry_after_s=settings.retry_after_s,
            )
        inbox.is_unborn = False
        opened = OpenRequest(job, published.ticket, published.ahead, inbox, self._stage)
        self._open[request] = opened
        self._none_open.clear()
        return opened

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

    async def drain(self, limit_s: float) -> None:
        """Take no more; let open requests finish within the limit; end the rest with an error."""
        self._is_draining = True
        await wait_or_stop(self._none_open, limit_s)
        # Those that wait first: else a provider takes them in the moment that the running ones free its slots.
        await self._end_all([request for request in self._open.values() if request.is_waiting])
        await self.finish_closing(CALL_OFF_S)
        await self._end_all([*self._open.values()])

    async def _end_all(self, requests: Sequence[OpenRequest]) -> None:
        """End these with an error; return when they have been told, or time is up."""
        stopping = ShuttingDown("this hub is stopping", retry_after_s=self._stage.settings.retry_after_s)
        for request in requests:
            request.end(stopping)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                for request in requests:
                    await request.closed.wait()

    async def finish_closing(self, limit_s: float) -> None:
        """Wait for clean-ups that are still under way."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=limit_s)

    async def follow_places(self) -> None:
        """Keep the places in the queue of waiting requests up to date until cancelled."""
        while True:
            await asyncio.sleep(PLACES_S)
            waiting = [request for request in self._open.values() if request.is_waiting and request.age_s > 1]
            tickets = [request.ticket for request in waiting]
            try:
                lanes = [(request.job.id, ticket.lane) for request, ticket in zip(waiting, tickets, strict=True)]
                places = await self._stage.lanes.places(lanes) if lanes else []
                for request, ticket, ahead in zip(waiting, tickets, places, strict=True):
                    if ahead is not None:
                        request.ahead = ahead
                    elif (await self._stage.lanes.fetch(ticket)).fields is None:  # the index is but a hint
                        request.miss(ticket)
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="places", error=str(exc))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _undo(self, request: RequestId, reply: str) -> None:
        """Call off a job of which nobody knows whether it was published: without its reply no provider runs it."""
        call_off = partial(self._stage.requests.call_off, request, reply, None, None)
        with suppress(BrokerError):  # the reply, if it is there, ends by its TTL
            await keep_trying(call_off, BrokerError, first_s=0.2, most_s=2, limit_s=UNDO_TRIES_S)

    async def _admit(self, asked: ModelId) -> ModelId:
        """The name under which the model is known, if a request for it may be published."""
        settings = self._stage.settings
        if self._is_draining:
            raise ShuttingDown("this hub is stopping", retry_after_s=settings.retry_after_s)
        if len(self._open) >= settings.max_open_requests:
            raise HubFull("this hub holds as many requests as it may", retry_after_s=settings.retry_after_s)
        if self._stage.view.age_s > SILENT_S:  # or each request would wait for its own command to time out
            raise BrokerAway("the broker does not answer", retry_after_s=settings.retry_after_s)
        try:
            model = await self._stage.view.find(asked)
        except BrokerError as exc:
            raise BrokerAway("the broker does not answer", retry_after_s=settings.retry_after_s) from exc
        if model is None:
            raise ModelNotFound(f"The model {asked!r} does not exist: no node has served it.", param="model")
        return model
